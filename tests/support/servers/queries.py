"""The SQL that all threads send, those of the application included."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db.backends.utils import CursorWrapper


@contextmanager
def queries_sent() -> Iterator[list[dict[str, Any]]]:
    """Yield the list that the queries are added to while the block runs, each as `{"sql": ..., "params": ...}`."""
    seen: list[dict[str, Any]] = []
    execute = CursorWrapper.execute

    def noting(self: CursorWrapper, sql: str, params: Any = None) -> Any:
        seen.append({"sql": str(sql), "params": params})
        return execute(self, sql, params)

    with mock.patch.object(CursorWrapper, "execute", noting):
        yield seen
