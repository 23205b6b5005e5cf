"""How much memory Redis uses. Admission stops well below `maxmemory`."""

from typing import NamedTuple

from config.common import redis

# `admit.lua` refuses requests at about this share of `maxmemory`, in percent.
ADMISSION_STOPS_PERCENT = 80
# The memory that Redis uses for its clients varies by about this share.
_MARGIN_PERCENT = 2


class Memory(NamedTuple):
    """The memory of Redis in bytes. A limit of 0 means no limit."""

    used: int
    limit: int

    @property
    def percent(self) -> int:
        """The share of the limit that is used."""
        return self.used * 100 // self.limit if self.limit else 0

    @property
    def is_full(self) -> bool:
        """Whether admission refuses requests because Redis uses too much memory, or may soon refuse them."""
        return self.percent >= ADMISSION_STOPS_PERCENT - _MARGIN_PERCENT


def read() -> Memory:
    """Return the memory that Redis uses now. In a cluster, this is the memory of the server that is the fullest."""
    found = [each.info("memory") for each in redis.primaries()]
    return max((Memory(int(info["used_memory"]), int(info["maxmemory"])) for info in found), key=_share)


def _share(memory: Memory) -> float:
    return memory.used / memory.limit if memory.limit else 0.0


def state() -> str:
    """Return `ok`, or what is wrong."""
    now = read()
    if not now.is_full:
        return "ok"
    return f"memory is full: {now.percent} % of maxmemory; requests are refused from {ADMISSION_STOPS_PERCENT} %"
