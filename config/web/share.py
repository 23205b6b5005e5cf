"""Limit the admin's share of a web process, so that requests to /admin/ cannot take the API's processor time.

- ADMIN_THREADS threads serve the admin. The same number of requests may wait for one of them, for at most a second.
- Requests of people who are not logged in may use a fifth of one core, and up to two seconds of processor time in one
  burst. Further requests get 503 before Django sees them. Anyone can ask for a password check, which costs a third of
  a second.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from django.conf import settings

from config.common.requests import LOGGED_IN

_WAIT_SECONDS = 1.0
_RETRY_SECONDS = 5
_MAX_SESSIONS = 1_000
_SESSION = re.compile(rf"(?:^|;\s*){settings.SESSION_COOKIE_NAME}=([^;]+)").search
PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Busy</title>'
    '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head>'
    '<body style="font: 1rem/1.5 sans-serif; margin: 3rem auto; max-width: 24rem"><main><h1>Too many requests</h1>'
    "<p>More people ask for these pages than this server can serve now. Nothing was done. "
    f"Wait {_RETRY_SECONDS} seconds, then try again.</p></main></body></html>"
).encode()
HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"retry-after", b"%d" % _RETRY_SECONDS),
    (b"connection", b"close"),
)


class Budget:
    """Processor seconds that may be spent: a burst, and a share of the time that passes."""

    def __init__(self, *, share: float, burst: float) -> None:
        self._share, self._burst = share, burst
        self._left, self._at = burst, time.monotonic()

    def spend(self, seconds: float) -> bool:
        """Subtract processor time that was used. Return whether some is left."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._share) - seconds
        self._at = now
        return self._left > 0


_strangers = Budget(share=0.2, burst=2.0)
_sessions: dict[str, None] = {}  # of people who were logged in when this process last served them
_threads = asyncio.Semaphore(settings.ADMIN_THREADS)


class _Line:
    """Requests that are served by a thread, or wait for one."""

    length = 0


class Visitor:
    """The sender of a request to the admin: a user who is logged in, or a stranger."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        found = _SESSION(environ.get("HTTP_COOKIE", ""))
        self._session = found[1] if found else ""

    def is_welcome(self) -> bool:
        """Return whether there is processor time for this visitor."""
        return self._session in _sessions or _strangers.spend(0)

    def charge(self, environ: Mapping[str, Any], seconds: float) -> None:
        """Charge a served request to strangers, or remember the session of a person who is or was just logged in."""
        session = environ.get(LOGGED_IN)
        if session is None:
            _strangers.spend(seconds)
        elif session not in _sessions:
            while len(_sessions) >= _MAX_SESSIONS:
                _sessions.pop(next(iter(_sessions)), None)
            _sessions[session] = None


@asynccontextmanager
async def place() -> AsyncIterator[bool]:
    """Take one of the admin's threads while the block runs. Yields False if none is free in time."""
    if _Line.length >= 2 * settings.ADMIN_THREADS:
        yield False
        return
    _Line.length += 1
    try:
        try:
            await asyncio.wait_for(_threads.acquire(), _WAIT_SECONDS)
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            _threads.release()
    finally:
        _Line.length -= 1
