"""The WSGI application as granian serves it: with what that server leaves undone."""

import math
import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess
from typing import IO, Any

from config import wsgi


class _Body:
    """`wsgi.input`, which knows whether all of it was read."""

    __slots__ = ("_left", "_stream")

    def __init__(self, stream: IO[bytes], length: float) -> None:
        self._stream = stream
        self._left = length

    @property
    def is_unread(self) -> bool:
        return self._left > 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left = self._left - len(data) if data or not size else 0
        return data

    def __getattr__(self, name: str) -> Any:  # what only the admin's forms use
        return getattr(self._stream, name)


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """The application; where it refuses a request without reading its body, the connection ends with the answer.

    The server closes such a connection anyhow, unless the whole body happens to have arrived. A client that is not told
    sends its next request into it, and gets no answer. To wait for the body instead would let anybody, without a key,
    keep a thread busy.
    """
    announced = environ.get("CONTENT_LENGTH") or ""
    if announced.isdecimal():
        length: float = int(announced)
    else:
        length = math.inf if "HTTP_TRANSFER_ENCODING" in environ else 0
    if not length:
        return wsgi.application(environ, start_response)
    body = environ["wsgi.input"] = _Body(environ["wsgi.input"], length)

    def start(status: str, headers: list[tuple[str, str]]) -> Any:
        return start_response(status, [*headers, ("Connection", "close")] if body.is_unread else headers)

    return wsgi.application(environ, start)


def _end_without(main: BaseProcess) -> None:
    main.join()
    os.kill(os.getpid(), signal.SIGTERM)


# A main process that was killed cannot stop its workers: they would answer requests, and hold the port, for ever.
_main = multiprocessing.parent_process()
if _main is not None:
    threading.Thread(target=_end_without, args=(_main,), daemon=True).start()
