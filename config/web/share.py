"""Limit the threads and the processor time of the admin and the management API in a web process.

So the admin and the management API leave the process time to accept records.

- ADMIN_THREADS threads serve the admin. The same number of requests may wait for one of them, for at most a second. The
  management API has half as many threads of its own, so a program that sends many requests does not block people.
- Queries, and searches of records in the admin, wait for another process. They have threads of their own, too.
- Requests of people who are not logged in, and of programs without a valid token, may use a fifth of one core, and up
  to two seconds of processor time in one burst. Further requests get 503 before Django sees them. Anyone can ask for a
  password check, which costs a third of a second.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from django.conf import settings

from config.common.requests import LOGGED_IN
from datasets import personal_tokens

_WAIT_SECONDS = 1.0
_RETRY_SECONDS = 5
_MAX_KNOWN = 1_000
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
# Sessions of people who were logged in when this process last served them, and digests of tokens that were valid.
_known: dict[str, None] = {}


class Places:
    """The threads for one kind of request, and the requests that wait in line for a thread."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._free = asyncio.Semaphore(threads)
        self._in_line = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[bool]:
        """Hold one of the threads while the block runs. Yield False if none is free in time, or too many wait."""
        if self._in_line >= 2 * self.threads:
            yield False
            return
        self._in_line += 1
        try:
            try:
                await asyncio.wait_for(self._free.acquire(), _WAIT_SECONDS)
            except TimeoutError:
                yield False
                return
            try:
                yield True
            finally:
                self._free.release()
        finally:
            self._in_line -= 1


ADMIN = Places(settings.ADMIN_THREADS)
MANAGEMENT_API = Places(max(2, settings.ADMIN_THREADS // 2))
QUERIES = Places(2 * settings.ADMIN_THREADS)


class Visitor:
    """The sender of a request: a user who is logged in, a program with a valid token, or a stranger."""

    def __init__(self, environ: Mapping[str, Any], *, of_api: bool) -> None:
        if of_api:
            self._pass = personal_tokens.digest_of(environ.get("HTTP_AUTHORIZATION", "").partition(" ")[2].strip())
        else:
            found = _SESSION(environ.get("HTTP_COOKIE", ""))
            self._pass = found[1] if found else ""

    def is_welcome(self) -> bool:
        """Return whether there is processor time for this visitor."""
        return self._pass in _known or _strangers.spend(0)

    def charge(self, environ: Mapping[str, Any], seconds: float) -> None:
        """Note that a request took `seconds` of processor time.

        A request without a valid session or token uses up the budget of all strangers. Any other request makes its
        session or token known, and known visitors have no budget.
        """
        shown = environ.get(LOGGED_IN)
        if shown is None:
            _strangers.spend(seconds)
        elif shown not in _known:
            while len(_known) >= _MAX_KNOWN:
                _known.pop(next(iter(_known)), None)
            _known[shown] = None
