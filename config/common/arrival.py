"""Bodies that are waited for: nobody keeps the web threads by announcing bodies and not sending them.

granian waits for a body as long as its connection lasts, in a thread that nothing can interrupt: what was let in is
never cut off, and whether a body has arrived is not known before it is read. So bodies are let in as a switch lets
packets of many senders into one buffer: nobody may hold more than half of what is left. The first gets less than a
third of the threads, each further one less, and the last eighth is for those who have none yet. Of the default's 32
threads, it takes eleven senders who work together to keep the next one out; one thread is left for who sends no body.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from django.conf import settings

from config.common.errors import ApiError

# A body that has arrived is read in microseconds, or milliseconds where all threads want the interpreter.
_SLOW_SECONDS = 1.0
_PAUSE_SECONDS = 0.005
_PAUSES = int(_SLOW_SECONDS / _PAUSE_SECONDS)


class BodyTooSlow(ApiError):
    """Too many bodies are waited for already, of this sender or of all."""

    status, code, error = 408, "body_too_slow", "Request body too slow"

    def __init__(self) -> None:
        detail = "Too many requests, most likely yours, have not sent their bodies yet."
        super().__init__({"detail": detail}, headers={"Retry-After": "1"})


class _Wait:
    """A thread that reads somebody's body, and since when."""

    __slots__ = ("since", "who")

    def __init__(self, who: object) -> None:
        self.who = who
        self.since = time.monotonic()


_waits: dict[_Wait, None] = {}
_entering: dict[_Wait, None] = {}  # those who hope for room
_entrance = threading.Lock()


def read(stream: IO[bytes], size: int, *, who: object) -> bytes:
    """`stream.read(size)` on behalf of a sender: a project, or whoever sends forms to the admin. Raises BodyTooSlow."""
    wait = _Wait(who)
    if len(_waits) < settings.WEB_THREADS // 8:
        _waits[wait] = None
    else:
        _enter(wait)
    try:
        return stream.read(size)
    finally:
        del _waits[wait]


def is_crowded() -> bool:
    """Return whether half of the web threads wait for bodies."""
    return 2 * len(_waits) >= settings.WEB_THREADS


@contextmanager
def counted(who: object) -> Iterator[None]:
    """Count this thread among those that wait for bodies, for as long as the block runs."""
    wait = _Wait(who)
    _waits[wait] = None
    try:
        yield
    finally:
        del _waits[wait]


def _enter(wait: _Wait) -> None:
    """Add a wait to the others as soon as there is room for it. Raises BodyTooSlow."""
    _entering[wait] = None
    try:
        for _ in range(_PAUSES):  # not by the clock: a process that was stopped has not been patient
            with _entrance:
                if _has_room(wait.who):
                    wait.since = time.monotonic()
                    _waits[wait] = None
                    return
            time.sleep(_PAUSE_SECONDS)  # those that are ahead have their bodies at once, or turn out to be slow
        raise BodyTooSlow
    finally:
        del _entering[wait]


def _has_room(who: object) -> bool:
    """Whether one more body of a sender may be waited for. Raises BodyTooSlow where not even room may be hoped for."""
    threads: int = settings.WEB_THREADS
    kept = max(1, threads // 8)
    everybody = list(_waits)
    own = sum(each.who == who for each in everybody)
    if 2 * own < threads - kept - len(everybody) or (not own and len(everybody) < max(1, threads - 1)):
        return True
    before = time.monotonic() - _SLOW_SECONDS
    slow = [each.who for each in everybody if each.since < before]
    # Where many are slow already, those who hope for room leave the last threads to others.
    is_crowded = len(slow) >= max(1, threads // 4) and len(everybody) + len(_entering) > threads - kept
    if slow.count(who) >= kept or is_crowded:
        raise BodyTooSlow
    return False


class WatchedInput:
    """`wsgi.input` for Django's own reading of forms, which takes an OSError for a body that cannot be had."""

    def __init__(self, stream: IO[bytes], *, who: object) -> None:
        self._stream = stream
        self._who = who

    def read(self, size: int) -> bytes:
        try:
            return read(self._stream, size, who=self._who)
        except BodyTooSlow as refusal:
            raise OSError(refusal.error) from refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
