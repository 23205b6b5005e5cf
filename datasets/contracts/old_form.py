"""Find the API keys that still send records in the form of the schema version before the latest one.

`admit.lua` counts the records of this form that it admits in a grace period.

Redis keys
    grace:<id of the latest schema version>   hash: `records:<key id>` -> how many records of the previous version,
                                              `last:<key id>` -> when the last one came, in ms since the epoch
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from config.common import redis
from config.common.cluster.key_tags import tagged
from datasets import tags
from datasets.models import ApiKey, SchemaVersion

# The counts are deleted this number of seconds after the last record of the old form.
KEPT_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Sender:
    """An API key that has sent records of the old form."""

    key_id: int  # 0: imports, which need no key
    key: ApiKey | None  # None: it was deleted, or there was none
    records: int
    last: datetime


def key(dataset_id: int, version_id: int) -> str:
    """Return the Redis key of the counts for the grace period that a dataset's schema version has begun."""
    return tagged(f"grace:{version_id}", tags.of_dataset(dataset_id))


def senders(version: SchemaVersion) -> list[Sender]:
    """Return the API keys that sent records of the version before `version`, latest sender first. Raises RedisError."""
    counts = {
        name.decode(): int(value) for name, value in redis.client().hgetall(key(version.dataset_id, version.pk)).items()
    }
    return sorted(_senders(counts), key=lambda sender: sender.last, reverse=True)


def _senders(counts: dict[str, int]) -> Iterator[Sender]:
    ids = [int(name.partition(":")[2]) for name in counts if name.startswith("records:")]
    keys = ApiKey.objects.in_bulk(ids)
    for key_id in ids:
        last = datetime.fromtimestamp(counts[f"last:{key_id}"] / 1000, UTC)
        yield Sender(key_id, keys.get(key_id), counts[f"records:{key_id}"], last)
