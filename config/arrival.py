"""Bodies that are waited for: no sender alone keeps the web threads by announcing bodies and not sending them.

granian waits for a body as long as its connection lasts, in a thread that nothing can interrupt: what was let in is
never cut off. So there are more threads than are needed to work, and bodies are let in by what has become of others:
no more than half of the threads hold bodies that may yet prove slow; a sender of whose bodies an eighth has proved so,
or any while a quarter of all has, is refused. One sender alone thus gets half, all at once, and no more. Several who
work together can get all: against them helps a proxy that waits for whole bodies.
"""

import threading
import time
from typing import IO, Any

from django.conf import settings

from config.errors import ApiError

# A body that has arrived is read in microseconds, or milliseconds where all threads want the interpreter.
_SLOW_SECONDS = 1.0
_PAUSE_SECONDS = 0.005


class BodyTooSlow(ApiError):
    """Too many bodies of this sender are waited for already."""

    status, code, error = 408, "body_too_slow", "Request body too slow"

    def __init__(self) -> None:
        detail = "Too many requests of yours have not sent their bodies yet."
        super().__init__({"detail": detail}, headers={"Retry-After": "1"})


class _Wait:
    """A thread that reads somebody's body, and since when."""

    __slots__ = ("since", "who")

    def __init__(self, who: object) -> None:
        self.who = who
        self.since = time.monotonic()


_waits: dict[_Wait, None] = {}
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


def _enter(wait: _Wait) -> None:
    """Add a wait to the others as soon as there is room for it."""
    threads: int = settings.WEB_THREADS
    while True:
        with _entrance:
            wait.since = time.monotonic()
            everybody = list(_waits)
            slow = [each.who for each in everybody if wait.since - each.since > _SLOW_SECONDS]
            own = slow.count(wait.who)
            if own >= max(1, threads // 8) or (own and len(slow) >= threads // 4):
                raise BodyTooSlow
            if len(everybody) - len(slow) < max(1, threads // 2):
                _waits[wait] = None
                return
        time.sleep(_PAUSE_SECONDS)  # those that are ahead have their bodies at once, or turn out to be slow


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
