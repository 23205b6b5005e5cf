"""How much of Redis's memory is used: admission stops well below `maxmemory`, and people are told why."""

from typing import NamedTuple

from config.common import redis

# `admit.lua` refuses requests at this share of `maxmemory`, in percent.
ADMISSION_STOPS_PERCENT = 80
# What Redis uses for its clients varies by about this much.
_MARGIN_PERCENT = 2


class Memory(NamedTuple):
    """Redis's memory, in bytes; a limit of 0 is no limit."""

    used: int
    limit: int

    @property
    def percent(self) -> int:
        return self.used * 100 // self.limit if self.limit else 0

    @property
    def is_full(self) -> bool:
        """Whether requests are refused for it, or are about to be."""
        return self.percent >= ADMISSION_STOPS_PERCENT - _MARGIN_PERCENT


def seen() -> Memory:
    """Return what Redis says now."""
    info = redis.client().info("memory")
    return Memory(int(info["used_memory"]), int(info["maxmemory"]))


def state() -> str:
    """Return `ok`, or what is wrong in words."""
    now = seen()
    if not now.is_full:
        return "ok"
    return f"memory is full: {now.percent} % of maxmemory; requests are refused from {ADMISSION_STOPS_PERCENT} %"
