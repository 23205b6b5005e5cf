"""A queue for the tests of the Lua scripts."""

import pytest

from config.common import redis
from tests.ingest.queue.calling import ACCEPTED, BYTES, GENERATION, HOUR_MS, QUEUED, STREAM, TOTAL


@pytest.fixture
def queue() -> list[str]:
    """Sixty entries with 1, 2 or 3 records and 10, 20 or 30 bytes, in three hours. Another dataset has 1000 bytes."""
    client = redis.client()
    client.set(GENERATION, "now")
    ids = []
    for n in range(60):
        count = n % 3 + 1
        stream_id = f"{490_000 * HOUR_MS + n * HOUR_MS // 20}-{n}"
        client.xadd(STREAM, {"b": b"x" * 10 * count, "f": "o", "n": count, "v": 1, "t": "t"}, id=stream_id)
        ids.append(stream_id)
    client.mset({ACCEPTED: 120, QUEUED: 120, BYTES: 1200})
    client.set(TOTAL, 2200)
    return ids
