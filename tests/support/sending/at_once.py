"""Send many requests at the same moment, each from its own thread."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """Threads that close their database connections after each call, so that the test database can be deleted."""

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        def closing() -> T:
            try:
                return call(*args, **kwargs)
            finally:
                connections.close_all()

        return super().submit(closing)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Start all calls at the same moment. Return their results in order."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], T]) -> T:
        barrier.wait(60)
        return call()

    with Threads(len(calls)) as pool:
        return [each.result() for each in [pool.submit(begin, call) for call in calls]]
