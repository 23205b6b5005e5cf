"""The admin's share of a web process: the API keeps its threads and its processor time, whatever comes to /admin/.

- At most a quarter of the threads serve the admin, and as many requests wait for one of them, for a second at most.
- Requests of people who are not logged in may use a fifth of one core, in a burst two seconds of it. What is beyond
  gets 503 before Django sees it. A password check costs a third of a second, and anybody can ask for one.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from django.conf import settings

from config.common.requests import LOGGED_IN

_WAIT_SECONDS = 1.0
_RETRY_SECONDS = 5
_MAX_SESSIONS = 1_000
_SESSION = re.compile(rf"(?:^|;\s*){settings.SESSION_COOKIE_NAME}=([^;]+)").search
_SLOTS = max(2, settings.WEB_THREADS // 4)
_PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Busy</title>'
    '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head>'
    '<body style="font: 1rem/1.5 sans-serif; margin: 3rem auto; max-width: 24rem"><main><h1>Too many requests</h1>'
    "<p>More people ask for these pages than this server lets in at once. Nothing was done. "
    f"Wait {_RETRY_SECONDS} seconds, then try again.</p></main></body></html>"
).encode()

WsgiApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Budget:
    """Processor seconds that may be spent: so many at once, and a share of the time that passes."""

    def __init__(self, *, share: float, burst: float) -> None:
        self._share, self._burst = share, burst
        self._left, self._at = burst, time.monotonic()
        self._lock = threading.Lock()

    def spend(self, seconds: float) -> bool:
        """Take off what was used; return whether something is left."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._burst, self._left + (now - self._at) * self._share) - seconds
            self._at = now
            return self._left > 0


_strangers = Budget(share=0.2, burst=2.0)
_sessions: dict[str, None] = {}  # of people who were logged in when this process last served them
_slots = threading.Semaphore(_SLOTS)
_queue = threading.Semaphore(2 * _SLOTS)


def serve(site: WsgiApplication, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer by the site if its share allows it, else by a page that asks to try again."""
    found = _SESSION(environ.get("HTTP_COOKIE", ""))
    session = found[1] if found else ""
    if session not in _sessions and not _strangers.spend(0):
        return _refuse(environ, start_response)
    if not _has_whole_body(environ) or not _queue.acquire(blocking=False):
        return _refuse(environ, start_response)
    try:
        if not _slots.acquire(timeout=_WAIT_SECONDS):
            return _refuse(environ, start_response)
        began = time.thread_time()
        try:
            return site(environ, start_response)
        finally:
            _slots.release()
            _note(session, environ, time.thread_time() - began)
    finally:
        _queue.release()


def _has_whole_body(environ: dict[str, Any]) -> bool:
    """Read a form's body before it takes a place: a slow client holds no place. Return False if it is too slow."""
    length = environ.get("CONTENT_LENGTH", "")
    if not length.isdecimal() or not 0 < int(length) <= (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0):
        return True  # nothing to read, or more than Django will take
    try:
        environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(length)))
    except OSError:
        return False
    return True


def _note(session: str, environ: dict[str, Any], seconds: float) -> None:
    """Charge a request to strangers, or remember the session of a person who is logged in."""
    if LOGGED_IN not in environ:
        _strangers.spend(seconds)
    elif session and session not in _sessions:
        while len(_sessions) >= _MAX_SESSIONS:
            _sessions.pop(next(iter(_sessions)), None)
        _sessions[session] = None


def _refuse(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(_PAGE))),
        ("Retry-After", str(_RETRY_SECONDS)),
        ("Connection", "close"),
    ]
    start_response("503 Service Unavailable", headers)
    return [_PAGE]
