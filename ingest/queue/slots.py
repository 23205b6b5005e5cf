"""Slots: each running admission has one, so that Redis never admits a repeated command twice (see admit.lua)."""

import secrets
from collections import defaultdict

from config.common import redis
from config.common.cluster.key_tags import tagged
from datasets import tags
from ingest.queue import redis_keys
from ingest.queue.scripts import script

# A process repeats a command within seconds. So a slot that was not used for this time is not needed any more.
_MAX_IDLE_SECONDS = 3600


class Slot:
    """A slot, used by one admission at a time: its name, and the number of the last admission that used it."""

    __slots__ = ("name", "number")

    def __init__(self, tag: int) -> None:
        self.name = redis_keys.slot(secrets.token_hex(8), tag)
        self.number = 0


# The slots of this process that no admission uses now, by the tag of their keys.
free_slots: defaultdict[int, list[Slot]] = defaultdict(list)


def forget_slots() -> int:
    """Delete the slots that no admission has used for an hour. Return how many slots were deleted."""
    sets = [tagged(redis_keys.SLOTS, tag) for tag in tags.in_use()]
    found = redis.each([("SMEMBERS", each) for each in sets])
    return sum(
        script("forget_slots")(keys=[each, *slots], args=[_MAX_IDLE_SECONDS * 1000])
        for each, slots in zip(sets, found, strict=True)
        if slots
    )
