"""Read and discard the rest of a refused body, so that its sender gets the answer (RFC 9112, 9.6).

A server that closes a connection while the client is still sending resets it, and most clients then report a broken
connection instead of the answer. So the answer goes out at once, and what still comes is read and discarded, within
limits on time and bytes. The server stops reading as soon as the answer's iterator ends, so a web thread reads in it:
at most a quarter of the web threads, an eighth for one sender. Where a limit is reached, nothing is discarded.

Nothing can interrupt a read, so a client that stalls keeps its thread as long as its connection. A helper thread must
not read instead: a read has a lock on the body, and granian waits for that lock when the answer has ended, without
releasing the interpreter. The whole process would stand still until the client goes on or leaves.
"""

import threading
import time
from collections.abc import Iterator
from typing import IO

from django.conf import settings

from config.common import arrival

_MAX_SECONDS = 10.0
_PIECE_BYTES = 64 * 1024

_lock = threading.Lock()
_reading: list[object] = []  # the sender of each body that a web thread reads


def answer(content: bytes, stream: IO[bytes], *, sender: object) -> Iterator[bytes] | list[bytes]:
    """Return a refusal as a WSGI body, which discards the rest of the request if there is room for that.

    The sender is a project, or None for everyone without a good key. A stranger may send as much as one body may have,
    and a project four times as much.
    """
    limit: int = settings.MAX_BODY_BYTES * (1 if sender is None else 4)
    return _answer(content, _Rest(stream, limit, sender)) if _has_room(sender) else [content]


def _has_room(sender: object) -> bool:
    most: int = settings.WEB_THREADS // 4
    return not arrival.is_crowded() and len(_reading) < most and _reading.count(sender) < max(1, most // 2)


def _answer(content: bytes, rest: "_Rest") -> Iterator[bytes]:
    yield content
    with arrival.counted(("refused", rest.sender)):
        rest.discard()


class _Rest:
    """What is still to come of a body."""

    def __init__(self, stream: IO[bytes], limit: int, sender: object) -> None:
        self.sender = sender
        self._stream = stream
        self._left = limit

    def discard(self) -> None:
        """Return when the body has ended or exceeds the limit, or the time is up."""
        with _lock:
            if not _has_room(self.sender):
                return
            _reading.append(self.sender)
        try:
            deadline = time.monotonic() + _MAX_SECONDS
            while self._left > 0 and time.monotonic() < deadline and (piece := self._stream.read(_PIECE_BYTES)):
                self._left -= len(piece)
        finally:
            _reading.remove(self.sender)
