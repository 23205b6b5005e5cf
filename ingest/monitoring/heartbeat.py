"""Signs of life: each process that works behind the API leaves one in Redis, which alone measures their age.

Clocks of several machines may disagree, so no time of day is compared: a sign expires after STALE_SECONDS, and its age
is what has passed of these.
"""

from typing import NamedTuple

from config.common import redis
from ingest.queue import redis_keys

# Of the web processes, whichever answers is alive.
PROCESSES = ("worker", "upkeep", "beat")
# Left by a worker: what the storage looks like from there.
STORAGE = "storage"
STALE_SECONDS = 60


class Sign(NamedTuple):
    """A sign of life: `ok` or what is wrong, and how many seconds ago it was left."""

    state: str
    age: float


def leave(name: str, state: str = "ok") -> None:
    """Leave the sign of a process, or of the storage. Raises RedisError."""
    redis.client().set(redis_keys.sign(name), state, ex=STALE_SECONDS)


def read() -> dict[str, Sign | None]:
    """Return the latest sign of each process and of the storage; None where there is none. Raises RedisError."""
    names = (*PROCESSES, STORAGE)
    with redis.client().pipeline(transaction=False) as pipe:
        for name in names:
            pipe.get(redis_keys.sign(name))
            pipe.pttl(redis_keys.sign(name))
        replies = pipe.execute()
    return {
        name: None if state is None else Sign(state.decode(), max(0.0, STALE_SECONDS - left_ms / 1000))
        for name, state, left_ms in zip(names, replies[::2], replies[1::2], strict=True)
    }
