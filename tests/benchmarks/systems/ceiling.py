"""The ceiling: the rate that the service would have if Django, DRF and our own code cost no time.

It is a bare ASGI function. It decodes the same body with the same msgspec type, compresses a large body as the product
does, and runs one plain Lua script. The same server serves it with the same options. Each process sends its commands to
Redis immediately: small ones over one connection, and large ones over several.

The ceiling shares no code with the product. So if the product becomes faster, the ceiling does not change.
"""

import asyncio
import gc
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import hiredis
import lz4.block
import msgspec
from msgspec import Meta, Struct

_KEYS = tuple(os.environ["PREFIX"] + name for name in ("limit", "total", "delta", "stream", "pending"))
_LARGE_BYTES = 4096  # a body from this size on uses one of the connections for large bodies
_FOR_LARGE = 16
_COMPRESS_BYTES = 8192

Timestamp = Annotated[datetime, Meta(tz=True)]


class AnyObject(Struct, gc=False):
    """Matches any JSON object."""


class Record(Struct, forbid_unknown_fields=True, gc=False):
    """The type of the benchmark's record, as the product compiles it."""

    timestamp: Timestamp
    context: AnyObject
    country: str
    plan: str
    amount: float
    active: bool
    signup_at: Timestamp


_one = msgspec.json.Decoder(Record).decode
_many = msgspec.json.Decoder(list[Record]).decode


async def application(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Mapping[str, Any]]],
    send: Callable[[Mapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer POST /datasets/<id> and /datasets/<id>/batch, without checking a key or a dataset."""
    size = next(int(value) for name, value in scope["headers"] if name == b"content-length")
    body = b""
    while len(body) < size:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
    if scope["path"].endswith("/batch"):
        count = len(_many(body))
        answer = b'{"success":true,"count":%d,"status":"queued"}' % count
    else:
        _one(body)
        count = 1
        answer = b'{"success":true,"status":"queued"}'
    is_charged = await _charge(count, body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 202 if is_charged else 429, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def _charge(count: int, body: bytes) -> bool:
    """Charge and queue a request. Return False if the quota is used up."""
    redis = await _opened()
    connection = redis.small if len(body) < _LARGE_BYTES else next(redis.large)
    queued = body if len(body) < _COMPRESS_BYTES else lz4.block.compress(body)
    reply = await connection.run("EVALSHA", redis.script, len(_KEYS), *_KEYS, count, queued)
    return bool(reply[0])


class _Connection(asyncio.Protocol):
    """A connection to Redis. The commands of one turn of the event loop are sent with one write."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def run(self, *command: str | int | bytes) -> "asyncio.Future[Any]":
        """Send a command. Return a future for its reply."""
        future = self._loop.create_future()
        self._waiting.append(future)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(command))  # type: ignore[arg-type]
        return future

    def _flush(self) -> None:
        self.transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not False:
            future = self._waiting.popleft()
            if not future.done():  # it is done if the client has disconnected
                future.set_result(reply)


class _Redis:
    """This process's connections."""

    def __init__(self, script: str, connections: list[_Connection]) -> None:
        self.script = script
        self.small = connections[0]
        self.large = cycle(connections[1:])


async def _open() -> _Redis:
    loop, path = asyncio.get_running_loop(), os.environ["REDIS_SOCKET"]
    connections = [(await loop.create_unix_connection(_Connection, path))[1] for _ in range(1 + _FOR_LARGE)]
    script = await connections[0].run("SCRIPT", "LOAD", Path(os.environ["SCRIPT"]).read_bytes())
    return _Redis(script.decode(), connections)


@cache
def _opened() -> "asyncio.Task[_Redis]":
    """Return the task that opens the connections at the first request."""
    return asyncio.create_task(_open())


# The product does the same: see config.web.granian.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)
sys.setswitchinterval(0.0005)
