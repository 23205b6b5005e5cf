"""Regular maintenance of tables and API keys. Beat starts it."""

import logging
from datetime import UTC, datetime

from config.common import redis
from config.common.cluster.key_tags import tagged
from config.lazy import deltalake
from datasets import installation, tags
from datasets.models import ApiKey, Dataset
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.maintenance import tidy
from datasets.tables.table import DatasetTable
from ingest.queue import redis_keys
from ingest.storing import untidy

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 6 * 3600


def tidy_tables(*, everything: bool) -> None:
    """Compact and vacuum the tables that were written to, and delete days beyond retention.

    If one table fails, tidy the others anyway. With `everything`, tidy all tables, and also delete files that writers
    left behind when they died.
    """
    ids = untidy.dataset_ids()
    datasets = Dataset.objects.all() if everything else Dataset.objects.filter(pk__in=ids)
    for dataset in datasets.iterator():
        untidy.clear(dataset.pk)
        try:
            latest = dataset.latest_version()
            tidy(DatasetTable.of(dataset), latest.field_list() if latest else (), sweep=everything)
        except ConcurrentCommit:
            logger.info("dataset %s: another run tidies the table at the same time", dataset.pk)
            untidy.mark(dataset.pk)  # the other run may have missed the latest commits
        except (deltalake.exceptions.DeltaError, OSError):
            logger.exception("dataset %s: the table could not be tidied; the next run tries again", dataset.pk)
            untidy.mark(dataset.pk)


def sweep_is_due() -> bool:
    """Return whether six hours have passed since the last sweep of all tables ended."""
    return not redis.client().exists(redis_keys.SWEPT)


def note_sweep() -> None:
    """Mark the end of a sweep of all tables. If a process dies during a sweep, the next check repeats the sweep."""
    redis.client().set(redis_keys.SWEPT, 1, ex=_SWEEP_SECONDS)


def note_key_use() -> None:
    """Move the last use of each API key from Redis to the database."""
    installation.check()
    hashes = [tagged(redis_keys.KEYS_LAST_USED, tag) for tag in tags.in_use()]
    found = redis.each([("HGETALL", each) for each in hashes])
    noted = {int(key_id): int(ms) for each in found for key_id, ms in each.items()}
    if not noted:
        return
    keys = [ApiKey(pk=key_id, last_used_at=datetime.fromtimestamp(ms / 1000, UTC)) for key_id, ms in noted.items()]
    ApiKey.objects.bulk_update(keys, ["last_used_at"], batch_size=500)
    # If a key was used meanwhile, this deletes the new time. But the next use of the key writes a time again.
    redis.each([("HDEL", key, *times) for key, times in zip(hashes, found, strict=True) if times])
