"""Upkeep of tables and keys, by beat."""

import logging
from datetime import UTC, datetime

from deltalake.exceptions import DeltaError

from config.common import redis
from datasets import installation
from datasets.models import ApiKey, Dataset
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.maintenance import tidy
from datasets.tables.table import DatasetTable
from ingest.queue import redis_keys
from ingest.storing import untidy

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 6 * 3600


def tidy_tables(*, everything: bool) -> None:
    """Compact, drop what is beyond retention, vacuum; a table that fails does not keep the others waiting."""
    ids = untidy.dataset_ids()
    datasets = Dataset.objects.all() if everything else Dataset.objects.filter(pk__in=ids)
    for dataset in datasets.iterator():
        untidy.clear(dataset.pk)
        try:
            tidy(DatasetTable.of(dataset), sweep=everything)
        except ConcurrentCommit:
            logger.info("dataset %s is being tidied by another", dataset.pk)
            untidy.mark(dataset.pk)  # which may not have seen the last commits
        except (DeltaError, OSError):
            logger.exception("dataset %s could not be tidied; it will be tried again", dataset.pk)
            untidy.mark(dataset.pk)


def sweep_is_due() -> bool:
    """Return whether six hours have passed since the last sweep of all tables ended."""
    return not redis.client().exists(redis_keys.SWEPT)


def note_sweep() -> None:
    """Note that a sweep of all tables has ended. One that dies is not noted, so the next check repeats it."""
    redis.client().set(redis_keys.SWEPT, 1, ex=_SWEEP_SECONDS)


def note_key_use() -> None:
    """Move the times of last use from Redis to the database."""
    installation.check()
    client = redis.client()
    noted = {int(key_id): int(ms) for key_id, ms in client.hgetall(redis_keys.KEYS_LAST_USED).items()}
    if not noted:
        return
    keys = [ApiKey(pk=key_id, last_used_at=datetime.fromtimestamp(ms / 1000, UTC)) for key_id, ms in noted.items()]
    ApiKey.objects.bulk_update(keys, ["last_used_at"], batch_size=500)
    # One used again meanwhile is noted again within seconds.
    client.hdel(redis_keys.KEYS_LAST_USED, *noted)
