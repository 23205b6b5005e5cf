"""Clients that send their bodies a byte at a time, over thousands of connections."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import uvloop

_TURNS_A_SECOND = 20
_PAUSE_SECONDS = 0.2  # the pause before a connection that has ended is opened again
# Open at most this many connections at the same time. A server has room for more in its queue of new connections.
_OPENING = 200


class Tricklers:
    """Open `count` connections, which begin with `heads` in turn, and send a byte over each of them every second.

    If the server ends a connection, it is opened again. After an answer, a connection continues to send, as a hostile
    client does.
    Use it as a context manager: its event loop runs in a thread.
    """

    def __init__(self, port: int, heads: Sequence[bytes], count: int) -> None:
        self.count = count
        self.open = 0
        # How many answers had each status. "none" counts connections that the server ended without an answer.
        self.answers: Counter[str] = Counter()
        self.sent = 0  # bytes
        self.unreachable = 0  # attempts to connect that failed
        self._port = port
        self._heads = itertools.cycle(heads)
        self._transports: list[asyncio.WriteTransport | None] = [None] * count
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), name="tricklers", daemon=True)

    def __enter__(self) -> "Tricklers":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        opening = asyncio.Semaphore(_OPENING)
        kept = [asyncio.create_task(self._keep_open(number, opening)) for number in range(self.count)]
        for turn in itertools.cycle(range(_TURNS_A_SECOND)):
            if self._over.is_set():
                break
            for transport in self._transports[turn::_TURNS_A_SECOND]:
                if transport is not None and not transport.is_closing():
                    transport.write(b" ")
                    self.sent += 1
            await asyncio.sleep(1 / _TURNS_A_SECOND)
        for task in kept:
            task.cancel()
        await asyncio.gather(*kept, return_exceptions=True)

    async def _keep_open(self, number: int, opening: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with opening:
                    transport, trickle = await loop.create_connection(_Trickle, "127.0.0.1", self._port)
            except OSError:
                self.unreachable += 1
            else:
                self._transports[number] = transport
                self.open += 1
                transport.write(next(self._heads))
                try:
                    self.answers[await trickle.ended] += 1
                finally:
                    self.open -= 1
                    self._transports[number] = None
                    transport.abort()
            await asyncio.sleep(_PAUSE_SECONDS)


class _Trickle(asyncio.Protocol):
    """One connection. When it ends, its future `ended` gets the status of the last answer, or "none"."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._status = "none"

    def data_received(self, data: bytes) -> None:
        self._status = data[9:12].decode()  # b"HTTP/1.1 401 ..."

    def eof_received(self) -> bool:
        return True  # continue to send until the server resets the connection

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(self._status)
