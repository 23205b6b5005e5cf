"""Limit the memory that large bodies, and bodies that arrive in pieces, may take in a web process.

Each project may take half of the memory that the others leave free. So one project gets at most half of all memory, and
two projects together get at most three quarters: some memory is always left for another project. A body waits up to
five seconds for room. During this time, the process does not read the body, so the sender of the body also waits.
"""

import asyncio
from collections import Counter, deque

from django.conf import settings

from ingest.errors import QueueUnavailable

_WAIT_SECONDS = 5.0
_NO_ROOM = {
    "detail": "This web process has no memory for the body now, most likely because your project sends many large "
    "bodies at the same time. Nothing was queued or charged."
}

_waiting: deque["asyncio.Future[None]"] = deque()


class _Held:
    """Bytes that are held now."""

    def __init__(self) -> None:
        self.total = 0
        self.by_sender: Counter[object] = Counter()


_held = _Held()


class Hold:
    """The bytes that one request holds. Use it as a context manager, which releases them at the end."""

    __slots__ = ("_bytes", "who")

    def __init__(self, who: object = None) -> None:
        self.who = who  # the project, or another kind of sender
        self._bytes = 0

    async def at_least(self, count: int) -> None:
        """Hold `count` bytes or more. Raises QueueUnavailable if there is no room for them in time."""
        more = count - self._bytes
        if more <= 0:
            return
        if not _has_room(self.who, more):
            await _wait_for_room(self.who, more)
        _held.total += more
        _held.by_sender[self.who] += more
        self._bytes = count

    def shrink(self, count: int) -> None:
        """Release what is held beyond `count` bytes."""
        less = self._bytes - count
        if less > 0:
            _held.total -= less
            _held.by_sender[self.who] -= less
            self._bytes = count
            _wake()

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._bytes:
            return
        _held.total -= self._bytes
        _held.by_sender[self.who] -= self._bytes
        if not _held.by_sender[self.who]:
            del _held.by_sender[self.who]
        _wake()


def _wake() -> None:
    """Wake the requests that wait for room, so that they look again."""
    while _waiting:
        future = _waiting.popleft()
        if not future.done():
            future.set_result(None)


def _has_room(who: object, more: int) -> bool:
    own = _held.by_sender.get(who, 0)
    left: int = settings.BODY_MEMORY_BYTES - (_held.total - own)
    return 2 * (own + more) <= left


async def _wait_for_room(who: object, more: int) -> None:
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while not _has_room(who, more):
                future = asyncio.get_running_loop().create_future()
                _waiting.append(future)
                await future
    except TimeoutError:
        raise QueueUnavailable(_NO_ROOM) from None
