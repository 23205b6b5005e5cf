"""Threads beside the event loop, for work that waits or takes long.

Each kind of work has its own threads, so that work of one kind never waits for another kind.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

from django.db import close_old_connections

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Lane:
    """Threads for one kind of work. If all are busy, more work waits in line."""

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Call a function in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


class SharedLane(Lane):
    """Threads that several senders share. While all threads are busy, the senders take turns."""

    def __init__(self, name: str, threads: int) -> None:
        super().__init__(name, threads)
        self._free = threads
        self._waiting: dict[object, deque[asyncio.Future[None]]] = {}  # by sender; the first sender has the next turn

    async def run_for(self, sender: object, function: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Call a function in one of the threads. If others wait, wait for the sender's turn."""
        if self._free:
            self._free -= 1
        else:
            await self._turn(sender)
        try:
            return await self.run(function, *arguments)
        finally:
            self._pass_on()

    async def _turn(self, sender: object) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(sender, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # codespell:ignore  # the turn came at the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give a thread to the sender that has the next turn. Then this sender is the last in line."""
        while self._waiting:
            sender = next(iter(self._waiting))
            turns = self._waiting.pop(sender)
            turn = turns.popleft()
            if turns:
                self._waiting[sender] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class DatabaseLane(Lane):
    """Threads for work that reads the database. Each thread keeps its connection for up to CONN_MAX_AGE seconds."""

    async def run(self, function: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Call a function in one of the threads, with a connection that works."""
        return await super().run(_with_connection, function, *arguments)


def _with_connection(function: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
    close_old_connections()
    try:
        return function(*arguments)
    finally:
        close_old_connections()


# What the ingest API and imports read from the database: contracts that are not cached, receipts and quotas.
READING = DatabaseLane("reading", 8)
# /readyz and /metrics. They must answer even if the database does not answer.
CHECKING = DatabaseLane("checking", 2)
# Large bodies are decompressed and validated here. The senders are projects.
LARGE = SharedLane("large", 2)
# Redis's sentinels are asked for the primary here.
FINDING = Lane("finding", 1)
