"""Restore what Redis lacks when it is new or was wiped: the generation, and a user's counters."""

import asyncio
import logging

from config.common.cluster.key_tags import of_user
from config.common.loop import shared
from config.common.threads import READING
from datasets.installation import UnusableData
from ingest.errors import QueueUnavailable
from ingest.queue import generations
from quotas import counters

logger = logging.getLogger(__name__)

_UNUSABLE = {
    "detail": "Redis holds data of another installation or release (see /readyz). Nothing was queued or charged."
}
_running: dict[tuple[int, str], "asyncio.Task[str]"] = {}  # by owner and period


async def seeded(owner_id: int, period: str) -> str:
    """Restore what Redis lacks, once for all requests that wait for it. Return the generation.

    Raises QueueUnavailable if Redis's data is not ours.
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
    return generation
