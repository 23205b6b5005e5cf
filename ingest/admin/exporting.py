"""Export stored records: limit parallel exports, track their progress, and handle unreadable records."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.cache import cache

from config.common.connections import reset
from config.lazy import pyarrow as pa
from datasets.models import Dataset
from datasets.tables import exports, records
from datasets.tables.records import Selection

logger = logging.getLogger(__name__)

MAX_OF_A_USER = 2  # a user may run this number of exports at the same time, in this process
_PROGRESS_SECONDS = 600


class TooManyExports(Exception):
    """Too many exports are running. The text says whose exports they are, and what to do."""


_running: Counter[int] = Counter()  # by user
_lock = threading.Lock()


def max_exports() -> int:
    """Return how many exports a process may run at the same time. An export needs a thread while it produces data."""
    return max(1, settings.ADMIN_THREADS // 2)


def _begin(user_id: int) -> None:
    with _lock:
        if _running[user_id] >= MAX_OF_A_USER:
            raise TooManyExports(
                f"{MAX_OF_A_USER} of your exports are still running. Wait until one is complete, or cancel it."
            )
        if _running.total() >= max_exports():
            raise TooManyExports("Exports of other users are still running. Try again in a few minutes.")
        _running[user_id] += 1


def _end(user_id: int) -> None:
    with _lock:
        _running[user_id] -= 1
        if not _running[user_id]:
            del _running[user_id]


class Export:
    """The content of a streamed response. It holds one of a limited number of permits until it is closed."""

    def __init__(self, user_id: int, environ: Mapping[str, Any]) -> None:
        """Take a permit. Raises TooManyExports if none is free."""
        _begin(user_id)
        # The finalizer also releases the permit if an error discards the response before Django can close it.
        self._release = weakref.finalize(self, _end, user_id)
        self._environ = environ
        self._parts: Iterator[bytes] = iter(())
        self._progress = ""

    def open(self, dataset: Dataset, selection: Selection, write: exports.Writer, *, progress: str) -> None:
        """Read the first records. `progress` is the cache key of the progress.

        Raises DeltaError or OSError if the table cannot be read. Then the view can still answer with an error page.
        """
        self._progress = progress
        total = records.count(dataset, selection)
        batches = _tracked(records.batches(dataset, selection), total, progress)
        first = next(batches, None)
        self._parts = write(batches if first is None else chain([first], batches))

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._parts
        except Exception:  # after any error, the client must not think that the file is complete
            logger.exception("an export was interrupted, because records could not be read")
            _note(self._progress, {"failed": True})
            reset((self._environ.get("REMOTE_ADDR", ""), int(self._environ.get("REMOTE_PORT", 0))))

    def close(self) -> None:
        """Release the permit. Django calls this at the end of the response, even if the client has disconnected."""
        self._release()


def progress_key(user_id: int, export_id: str) -> str:
    """Return the cache key of an export's progress."""
    return f"export:{user_id}:{export_id[:64]}"


def progress_of(key: str) -> dict[str, Any]:
    """Return `done` and `total`, in records (`total` is None until it is known), or `failed` after a failure."""
    found: dict[str, Any] = cache.get(key, {"done": 0, "total": None})
    return found


def _tracked(source: Iterator[pa.RecordBatch], total: int, key: str) -> Iterator[pa.RecordBatch]:
    done = 0
    _note(key, {"done": done, "total": total})
    for batch in source:
        yield batch
        done += batch.num_rows
        _note(key, {"done": done, "total": total})
    _note(key, {"done": done, "total": done})


def _note(key: str, progress: dict[str, Any]) -> None:
    with suppress(Exception):  # the export continues if Redis is down
        cache.set(key, progress, _PROGRESS_SECONDS)
