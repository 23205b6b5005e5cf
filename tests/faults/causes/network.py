"""The network between clients and a service: a proxy that cuts connections, loses answers, or is away."""

import asyncio
import random
import threading
from contextlib import suppress

REQUEST, ANSWER = "request", "answer"
# A connection is cut after a random number of bytes below this one. Many requests and answers are shorter.
_CUT_BEFORE = {REQUEST: 6000, ANSWER: 900}
_CHUNK_BYTES = 65_536
_START_SECONDS = 10


class Network:
    """A proxy on a port of its own, in a thread of its own."""

    def __init__(self, port: int, seed: int) -> None:
        self.service_port = port
        self.port = 0
        self.cut: str = ""  # REQUEST or ANSWER: each connection ends in the middle of one
        self.loses_answers = False
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.come_back()

    def stop(self) -> None:
        self.go_away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)

    def come_back(self) -> None:
        """Accept connections, always at the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_START_SECONDS)

    def go_away(self) -> None:
        """End all connections, and refuse new ones."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_START_SECONDS)

    @property
    def is_troubled(self) -> bool:
        return bool(self.cut) or self.loses_answers or self._server is None

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for each in self._links:
            each.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = [writer]
        self._links.add(writer)
        with suppress(OSError):
            there, service = await asyncio.open_connection("127.0.0.1", self.service_port)
            mine.append(service)
            self._links.add(service)
            ways = [self._pass(reader, service, REQUEST), self._pass(there, writer, ANSWER)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        for each in mine:
            each.transport.abort()
            self._links.discard(each)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
        """Pass bytes on until one side ends, or until the connection is cut."""
        left: int | None = None
        with suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                if way == ANSWER and self.loses_answers:
                    continue
                if self.cut != way:
                    left = None
                elif left is None:
                    left = self._random.randrange(_CUT_BEFORE[way])
                target.write(data if left is None else data[:left])
                await target.drain()
                if left is not None and (left := left - len(data)) < 0:
                    return
