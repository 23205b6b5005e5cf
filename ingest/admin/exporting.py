"""Exports of stored records: a few at a time, their progress, and what happens where records cannot be read."""

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

import pyarrow as pa
from django.conf import settings
from django.core.cache import cache

from config.common.connections import broken_off
from datasets.models import Dataset
from datasets.tables import exports, records
from datasets.tables.records import Selection

logger = logging.getLogger(__name__)

MAX_OF_A_USER = 2  # exports at the same time in this process
_PROGRESS_SECONDS = 600


class TooManyExports(Exception):
    """The text says whose exports are in the way, and what to do."""


_running: Counter[int] = Counter()  # by user
_lock = threading.Lock()


def max_exports() -> int:
    """Return how many exports this process makes at the same time: each holds a thread for as long as it is read."""
    return max(1, settings.WEB_THREADS // 8)


def _begin(user_id: int) -> None:
    with _lock:
        if _running[user_id] >= MAX_OF_A_USER:
            raise TooManyExports(
                f"{MAX_OF_A_USER} of your exports are still running. Wait until one is done, or cancel it."
            )
        if _running.total() >= max_exports():
            raise TooManyExports("Other people's exports are still running. Try again when they are done.")
        _running[user_id] += 1


def _end(user_id: int) -> None:
    with _lock:
        _running[user_id] -= 1
        if not _running[user_id]:
            del _running[user_id]


class Export:
    """The content of a streamed answer. It holds one of the few places until it is closed."""

    def __init__(self, user_id: int, environ: Mapping[str, Any]) -> None:
        """Take a place. Raises TooManyExports."""
        _begin(user_id)
        # Also gives the place back if an error loses the answer before Django can close it.
        self._give_back = weakref.finalize(self, _end, user_id)
        self._environ = environ
        self._parts: Iterator[bytes] = iter(())
        self._progress = ""

    def open(self, dataset: Dataset, selection: Selection, write: exports.Writer, *, progress: str) -> None:
        """Read the first records; `progress` is the key of the cache where progress is kept.

        Raises DeltaError or OSError where nothing can be read: then the answer can still say so.
        """
        self._progress = progress
        total = records.count(dataset, selection)
        batches = _followed(records.batches(dataset, selection), total, progress)
        first = next(batches, None)
        self._parts = write(batches if first is None else chain([first], batches))

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._parts
        except Exception:  # whatever it was, the client must not take this for a whole file
            logger.exception("an export was broken off: records could not be read")
            _note(self._progress, {"failed": True})
            yield from broken_off(self._environ)

    def close(self) -> None:
        """Give the place back. Django calls it when the answer ends, also when the client is gone."""
        self._give_back()


def progress_key(user_id: int, export_id: str) -> str:
    """Return where the cache has the progress of an export."""
    return f"export:{user_id}:{export_id[:64]}"


def progress_of(key: str) -> dict[str, Any]:
    """Return how many records are `done`, and of how many (`total`, None if not known), or that it has `failed`."""
    found: dict[str, Any] = cache.get(key, {"done": 0, "total": None})
    return found


def _followed(source: Iterator[pa.RecordBatch], total: int, key: str) -> Iterator[pa.RecordBatch]:
    done = 0
    _note(key, {"done": done, "total": total})
    for batch in source:
        yield batch
        done += batch.num_rows
        _note(key, {"done": done, "total": total})
    _note(key, {"done": done, "total": done})


def _note(key: str, progress: dict[str, Any]) -> None:
    with suppress(Exception):  # an export does not end because Redis is away
        cache.set(key, progress, _PROGRESS_SECONDS)
