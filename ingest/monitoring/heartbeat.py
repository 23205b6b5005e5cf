"""Heartbeats: each background process writes one to Redis. A worker also writes a heartbeat for the storage.

Clocks of several machines may differ, so heartbeats carry no time. Only Redis measures their age: a heartbeat expires
after STALE_SECONDS, and Redis knows how much of this time is left. If more than STALE_SECONDS is left, the heartbeat
was written before a failover to a Redis whose clock is behind. This heartbeat does not count, because it would last too
long.
"""

from typing import NamedTuple

from config.common import redis
from ingest.queue import redis_keys

# Web processes need no heartbeat: a web process that answers is alive.
PROCESSES = ("worker", "upkeep", "beat")
# The name of the heartbeat that a worker writes after it has checked the storage.
STORAGE = "storage"
STALE_SECONDS = 60


class Heartbeat(NamedTuple):
    """The last heartbeat of a process or of the storage: `ok` or what is wrong, and its age in seconds."""

    state: str
    age: float


def write(name: str, state: str = "ok") -> None:
    """Write the heartbeat of a process or of the storage. Raises RedisError."""
    redis.client().set(redis_keys.heartbeat(name), state, ex=STALE_SECONDS)


def read() -> dict[str, Heartbeat | None]:
    """Return the last heartbeat of each process and of the storage, None if it does not count. Raises RedisError."""
    names = (*PROCESSES, STORAGE)
    replies = redis.each([(command, redis_keys.heartbeat(name)) for name in names for command in ("GET", "PTTL")])
    return {
        name: Heartbeat(state.decode(), STALE_SECONDS - left_ms / 1000)
        if 0 <= left_ms <= STALE_SECONDS * 1000
        else None
        for name, state, left_ms in zip(names, replies[::2], replies[1::2], strict=True)
    }
