"""Bodies that arrive in many small pieces take little time and memory."""

import asyncio
import tracemalloc
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from config.common.errors import InvalidJson
from ingest.validation.body import arrive
from ingest.validation.room import Hold

LIMIT = 10_000_000


class Trickle:
    """A body of spaces. One byte arrives every 5 ms. Each read returns the bytes since the last read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.reads = 0
        self._clock = asyncio.get_running_loop().time
        self._read_at = self._clock()

    async def receive(self) -> Mapping[str, Any]:
        while (count := min(self.left, int((self._clock() - self._read_at) / 0.005))) == 0:
            await asyncio.sleep(0.001)
        self._read_at = self._clock()
        self.left -= count
        self.reads += 1
        return {"type": "http.request", "body": b" " * count, "more_body": self.left > 0}


def test_a_slow_body_costs_few_reads() -> None:
    async def read(size: int | None) -> int:
        body = Trickle(200)
        with Hold() as hold:
            assert await arrive(body.receive, size, LIMIT, hold) == b" " * 200
        return body.reads

    assert asyncio.run(read(200)) < 30
    assert asyncio.run(read(None)) > 30  # each chunk of a chunked body is read separately, and causes no pause


def test_a_body_is_refused_if_its_connection_is_lost() -> None:
    """The web server sends "http.request" for the last chunk, but "http.disconnect" if the connection is lost."""
    parts = [{"type": "http.request", "body": b"1\n", "more_body": True}] * 2
    end: Mapping[str, Any] = {"type": "http.request", "body": b"", "more_body": False}

    async def read(*messages: Mapping[str, Any]) -> bytes:
        each = iter(messages)

        async def receive() -> Mapping[str, Any]:
            return next(each)

        with Hold() as hold:
            return await arrive(receive, None, LIMIT, hold)

    assert asyncio.run(read(*parts, end)) == b"1\n1\n"
    for count in range(3):
        with pytest.raises(InvalidJson) as refusal:
            asyncio.run(read(*parts[:count], {"type": "http.disconnect"}))
        assert "connection was lost" in refusal.value.details["detail"]


def test_tiny_pieces_take_little_more_memory_than_their_bytes() -> None:
    count = 20_000

    def pieces() -> Iterable[Mapping[str, Any]]:
        for number in range(count):
            yield {"type": "http.request", "body": b"%02d" % (number % 100), "more_body": number < count - 1}

    async def read() -> bytes:
        body = iter(pieces())

        async def receive() -> Mapping[str, Any]:
            await asyncio.sleep(0)  # so that the event loop forgets the time limit of the last piece
            return next(body)

        with Hold() as hold:
            return await arrive(receive, None, LIMIT, hold)

    tracemalloc.start()
    try:
        assert len(asyncio.run(read())) == 2 * count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * count
