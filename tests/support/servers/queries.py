"""The SQL that all threads send, also the threads of the application."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import httpx
from django.db.backends.utils import CursorWrapper


@contextmanager
def queries_sent() -> Iterator[list[dict[str, Any]]]:
    """Yield a list. Each query during the block is added to it as `{"sql": ..., "params": ...}`."""
    seen: list[dict[str, Any]] = []
    execute = CursorWrapper.execute

    def noting(self: CursorWrapper, sql: str, params: Any = None) -> Any:
        seen.append({"sql": str(sql), "params": params})
        return execute(self, sql, params)

    with mock.patch.object(CursorWrapper, "execute", noting):
        yield seen


def queries_of(send: Callable[[], httpx.Response]) -> tuple[int, int]:
    """Send a request. Return the status of its answer, and the number of SQL queries that it took."""
    with queries_sent() as queries:
        status = send().status_code
    return status, len(queries)
