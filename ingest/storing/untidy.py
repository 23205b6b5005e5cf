"""Untidy tables: tables that were written to since their last compaction."""

from config.common import redis
from ingest.queue import redis_keys


def mark(*dataset_ids: int) -> None:
    """Mark tables that were written to and need a compaction."""
    if dataset_ids:
        redis.client().sadd(redis_keys.UNTIDY, *dataset_ids)


def dataset_ids() -> list[int]:
    """Return the datasets with untidy tables."""
    return [int(member) for member in redis.client().smembers(redis_keys.UNTIDY)]


def clear(dataset_id: int) -> None:
    """Remove the mark. Do so before the compaction, so that a commit during it sets the mark again."""
    redis.client().srem(redis_keys.UNTIDY, dataset_id)
