"""Call the queue's Lua scripts with short names of keys, and look at what they changed."""

from typing import Any

from config.common import redis
from ingest.queue.scripts import script

GENERATION, STREAM, TOTAL, HOURS = "generation", "stream", "total", "hours"
ACCEPTED, QUEUED, BYTES = "accepted", "queued", "bytes"
PENDING, TURNS, REPLAYED, TRIMMED = "pending", "turns", "replayed", "trimmed"
LOCK, DEATHS = "lock", "deaths"
TRIM = [GENERATION, STREAM, QUEUED, BYTES, TOTAL, HOURS, TRIMMED]
REPLAY = [GENERATION, STREAM, ACCEPTED, QUEUED, BYTES, TOTAL, PENDING, REPLAYED, TURNS]
HOUR_MS = 3_600_000


def call(name: str, keys: list[str], *args: Any) -> Any:
    return script(name)(keys=keys, args=args)


def everything() -> dict[bytes, bytes]:
    """Return all keys and values of this Redis."""
    client = redis.client()
    return {key: client.dump(key) for key in client.keys("*")}


def counts() -> dict[str, int]:
    keys = {"accepted": ACCEPTED, "queued": QUEUED, "bytes": BYTES, "total": TOTAL}
    return {name: int(value or 0) for name, value in zip(keys, redis.client().mget(keys.values()), strict=True)}


def stream() -> list[str]:
    return [stream_id.decode() for stream_id, _ in redis.client().xrange(STREAM)]


def now_ms() -> int:
    seconds, micros = redis.client().time()
    return int(seconds * 1000 + micros // 1000)


def replay(row: int, accepted_in: str) -> str:
    reply: bytes = call("replay", REPLAY, row, accepted_in, 13, b"body", "o", 2, 5, "trace", "1-1", "now", 4, "")
    return reply.decode()
