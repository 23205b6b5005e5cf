"""Untidy tables: those that were written to since their last compaction."""

from config.common import redis
from ingest.queue import redis_keys


def mark(dataset_id: int) -> None:
    """Note that a table was written to and needs a compaction."""
    redis.client().sadd(redis_keys.UNTIDY, dataset_id)


def dataset_ids() -> list[int]:
    """Return the datasets with untidy tables."""
    return [int(member) for member in redis.client().smembers(redis_keys.UNTIDY)]


def clear(dataset_id: int) -> None:
    """Remove the note. Do so before the compaction, so that a commit during it is noted again."""
    redis.client().srem(redis_keys.UNTIDY, dataset_id)
