"""Clients that send numbered records as fast as they are answered, over many connections."""

import asyncio
import itertools
import json
import random
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import uvloop

_NOTHING_HAPPENED = b"Nothing was queued or charged."
_END_SECONDS = 60  # the longest wait at the end for answers that are still to come


class Answer(NamedTuple):
    """The time when a client got an answer, how long it waited, and the answer."""

    at: float  # by the monotonic clock
    seconds: float
    status: int
    head: bytes
    body: bytes


class Senders:
    """Send records over `count` connections until the end of the block. Then wait until every request is answered.

    The connections take their numbers of records per request from `sizes`, in turn. Every second connection repeats a
    request with an Idempotency-Key until it is accepted. The others send each request once, and keep its answer, even a
    refusal.
    """

    def __init__(self, port: int, dataset: int, token: str, count: int, sizes: Sequence[int] = (1,)) -> None:
        self.count = count
        self.accepted: list[int] = []
        self.refused: list[int] = []  # the answer said that nothing was queued
        self.unknown: list[int] = []
        self.statuses: Counter[int] = Counter()
        self.refusals: list[Answer] = []
        self.accepted_at: list[float] = []  # when each accepted request was answered, by the monotonic clock
        self.longest_seconds = 0.0
        self.failures: list[str] = []
        self._port, self._dataset, self._token = port, dataset, token
        self._sizes = sizes
        self._numbers = itertools.count()
        self.over = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), name="senders", daemon=True)

    def __enter__(self) -> "Senders":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        clients = []
        for number, size in zip(range(self.count), itertools.cycle(self._sizes)):
            make = partial(_Client, self, size, repeats=number % 2 == 0)
            clients.append((await loop.create_connection(make, "127.0.0.1", self._port))[1])
        for client in clients:
            client.send()
        while not self.over.is_set():
            await asyncio.sleep(0.05)
        _, hanging = await asyncio.wait([client.ended for client in clients], timeout=_END_SECONDS)
        self.failures += [f"{len(hanging)} requests have no answer"] if hanging else []

    def request(self, size: int, numbers: list[int], key: str) -> bytes:
        rows = [{"timestamp": "2026-06-10T10:58:00Z", "context": {}, "number": number} for number in numbers]
        path, body = ("", json.dumps(rows[0])) if size == 1 else ("/batch", json.dumps(rows))
        lines = [
            f"POST /datasets/{self._dataset}{path} HTTP/1.1",
            *("Host: localhost", "Content-Type: application/json", f"Authorization: Bearer {self._token}"),
            *([f"Idempotency-Key: {key}"] if key else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", body]).encode()

    def take(self, size: int) -> list[int]:
        return [*itertools.islice(self._numbers, size)]

    def per_second(self, begin: float, end: float) -> float:
        """Return the rate of accepted requests between two moments of the monotonic clock."""
        return (bisect(self.accepted_at, end) - bisect(self.accepted_at, begin)) / (end - begin)


class _Client(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, senders: Senders, size: int, *, repeats: bool) -> None:
        self._senders, self._size, self._repeats = senders, size, repeats
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, failure: Exception | None) -> None:
        if not self.ended.done():
            self._end(f"the connection was lost: {failure}")

    def send(self) -> None:
        """Send the next request, or end."""
        if self._senders.over.is_set():
            self._end()
            return
        self._numbers = self._senders.take(self._size)
        key = f"{self._numbers[0]}" if self._repeats else ""
        self._request = self._senders.request(self._size, self._numbers, key)
        self._again()

    def _again(self) -> None:
        if not self.ended.done():
            self._began = time.monotonic()
            self._transport.write(self._request)

    def _end(self, failure: str = "") -> None:
        self._senders.failures += [failure] if failure else []
        self.ended.set_result(None)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) == int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self._received = b""
            now = time.monotonic()
            self._answered(Answer(now, now - self._began, int(head[9:12]), head.lower(), body))

    def _answered(self, answer: Answer) -> None:
        senders = self._senders
        senders.statuses[answer.status] += 1
        senders.longest_seconds = max(senders.longest_seconds, answer.seconds)
        if answer.status == 202:
            senders.accepted += self._numbers
            senders.accepted_at.append(answer.at)
            self.send()
            return
        senders.refusals.append(answer)
        if answer.status not in (409, 503) or b"\r\nretry-after: " not in answer.head:
            self._end(f"{answer.head!r} {answer.body!r}")
        elif self._repeats:
            self._loop.call_later(random.uniform(0.05, 0.2), self._again)  # sooner than Retry-After asks
        else:
            said = json.loads(answer.body)["detail"].encode()
            (senders.refused if said.endswith(_NOTHING_HAPPENED) else senders.unknown).extend(self._numbers)
            self._loop.call_later(0.1, self.send)
