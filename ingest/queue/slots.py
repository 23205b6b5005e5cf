"""Slots: each admission in flight has one, so that Redis never admits a repeated command twice (see admit.lua)."""

from config.common import redis
from ingest.queue import redis_keys
from ingest.queue.scripts import script

# A process repeats a command within seconds. After this time the slot is not needed any more.
_MAX_IDLE_SECONDS = 3600


def forget_slots() -> int:
    """Delete the slots that no admission has used for an hour. Return how many."""
    slots = redis.client().smembers(redis_keys.SLOTS)
    forgotten: int = script("forget_slots")(keys=[redis_keys.SLOTS, *slots], args=[_MAX_IDLE_SECONDS * 1000])
    return forgotten
