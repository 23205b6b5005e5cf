"""Restore what is missing in a new or wiped Redis: the generation, and a user's counters.

This module also finds Idempotency-Keys from before a move, if `manage.py move_to_cluster` has filled the cluster.
"""

import asyncio
import logging
import math
import time

from config.common import redis
from config.common.cluster.key_tags import is_cluster, of_user
from config.common.loop import shared
from config.common.pipelined import execute
from config.common.threads import READING
from datasets.installation import UnusableData
from ingest.errors import QueueUnavailable
from ingest.queue import generations, redis_keys
from quotas import counters

logger = logging.getLogger(__name__)

_UNUSABLE = {
    "detail": "Redis holds data of another installation or release (see /readyz). Nothing was queued or charged."
}
_running: dict[tuple[int, str], "asyncio.Task[str]"] = {}  # by owner and period


class _BeforeMove:
    """The time until which a cluster has Idempotency-Keys from before the move, on this process's monotonic clock."""

    ends = math.inf  # this process has not asked Redis for the time yet


async def answer_before_move(dataset_id: int, key: str, *, timeout: float) -> bytes | None:
    """Return what Redis keeps for an Idempotency-Key that was used before the move into this cluster, or None.

    Raises:
        config.common.redis.RedisUnavailable: Redis does not answer.
    """
    if not is_cluster() or time.monotonic() > _BeforeMove.ends:
        return None
    found: bytes | None = await execute("GET", redis_keys.idempotency_before_move(dataset_id, key), timeout=timeout)
    return found


async def seeded(owner_id: int, period: str) -> str:
    """Restore the generation and a user's counters, once for all requests that wait for this. Return the generation.

    Raises QueueUnavailable if Redis has data of another installation or release.
    """
    key = (owner_id, period)
    task = _running.get(key)
    if task is None:
        task = _running[key] = shared(READING.run(_seed, owner_id, period))
        task.add_done_callback(lambda _: _running.pop(key))
    return await asyncio.shield(task)


def _seed(owner_id: int, period: str) -> str:
    try:
        generation = generations.begin(of_user(owner_id))
    except UnusableData as refusal:
        logger.error("%s", refusal)
        raise QueueUnavailable(_UNUSABLE) from refusal
    counters.seed(owner_id, period)
    if is_cluster():
        _BeforeMove.ends = time.monotonic() + redis.client().pttl(redis_keys.BEFORE_MOVE) / 1000
    return generation
