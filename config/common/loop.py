"""The event loop of this process. Threads can run coroutines in it."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class _Process:
    loop: asyncio.AbstractEventLoop | None = None


_lock = threading.Lock()


def remember() -> None:
    """Remember the running loop as this process's own."""
    _Process.loop = asyncio.get_running_loop()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in this process's loop and wait for its result. Do not call it in the loop's own thread.

    A process without a server, such as a management command or the tests, gets a loop in its own thread.
    """
    with _lock:
        if _Process.loop is None:
            _Process.loop = asyncio.new_event_loop()
            threading.Thread(target=_Process.loop.run_forever, name="loop", daemon=True).start()
    return asyncio.run_coroutine_threadsafe(coroutine, _Process.loop).result()


def shared(coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """Start work that several callers wait for, each with `asyncio.shield`.

    If the work fails after its last caller has left, asyncio would log the failure with a traceback. This function
    prevents that log entry: each caller that leaves reports its own failure.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(_read_failure)
    return task


def _read_failure(task: "asyncio.Task[Any]") -> None:
    with suppress(asyncio.CancelledError):
        task.exception()
