"""Restore Redis from an older copy of its files, and find the records that may be lost or doubled by it.

A record may be lost if Redis accepted it after the copy was made, and if no table had it when the copy was put back. A
record may be doubled if its request was in progress then, because Redis has lost its Idempotency-Key.
"""

import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tests.faults.actors.workload import Record, Sent


@dataclass(frozen=True)
class Restore:
    """The times when a copy was made and when it was put back, by the monotonic clock.

    `stored` has the records that the tables had when the copy was put back, for each dataset that the restore concerns.
    A failover counts as a restore if the replica did not have all data. Its time is known less exactly: it was between
    `began_at` and `restored_at`.
    """

    copied_at: float
    restored_at: float
    stored: dict[int, set[Record]]
    began_at: float | None = None

    def excuses(self, sent: Sent) -> bool:
        """Return whether Redis may have lost these records."""
        return sent.began < self.restored_at and sent.known_at > self.copied_at

    def interrupted(self, sent: Sent) -> bool:
        """Return whether these records may have been sent both before and after the restore."""
        began_at = self.restored_at if self.began_at is None else self.began_at
        return sent.began < self.restored_at and began_at < sent.known_at


def records(tables: Path, project: int, dataset: int) -> list[Record]:
    """Return the records of a table, in no order. Raises DeltaError, OSError or ValueError."""
    path = tables / f"project_{project}" / f"dataset_{dataset}"
    rows = DeltaTable(str(path)).to_pyarrow_table(columns=["client", "sequence"])
    return list(zip(rows["client"].to_pylist(), map(int, rows["sequence"].to_pylist()), strict=True))


def forgotten(restores: Iterable[Restore], sent: Iterable[Sent]) -> dict[int, set[Record]]:
    """Return the records that may be lost, by dataset."""
    found: defaultdict[int, set[Record]] = defaultdict(set)
    for restore in restores:
        for each in sent:
            if each.dataset in restore.stored and restore.excuses(each):
                found[each.dataset] |= set(each.records) - restore.stored[each.dataset]
    return found


def repeated(restores: Iterable[Restore], sent: Iterable[Sent]) -> dict[int, set[Record]]:
    """Return the records that may be stored twice, by dataset."""
    found: defaultdict[int, set[Record]] = defaultdict(set)
    for restore in restores:
        for each in sent:
            if each.dataset in restore.stored and restore.interrupted(each):
                found[each.dataset] |= set(each.records)
    return found


class RedisFiles:
    """The append-only files of a stack's Redis. They are copied and put back while Redis is stopped."""

    def __init__(self, directory: Path, tables: Path, find: Callable[[], psutil.Process | None]) -> None:
        self.files, self.older = directory / "appendonlydir", directory / "older"
        self.tables, self.find = tables, find
        self.lock = threading.Lock()  # keeps other faults from signaling Redis meanwhile
        self.copied_at: float | None = None

    def copy(self) -> bool:
        """Make a copy. Return False if that is not possible now."""
        with self.lock:
            process = self.find() if self.copied_at is None else None
            if process is None:
                return False
            copied_at = time.monotonic()
            try:
                process.suspend()
                shutil.copytree(self.files, self.older)
                process.resume()
            except (psutil.NoSuchProcess, OSError):
                shutil.rmtree(self.older, ignore_errors=True)
                return False
            self.copied_at = copied_at
            return True

    def restore(self, projects: dict[int, int]) -> Restore | None:
        """Put the copy back, and kill Redis, so that it is started again. Return None if that is not possible now."""
        with self.lock:
            copied_at, self.copied_at = self.copied_at, None
            process = self.find()
            try:
                if process is None or copied_at is None:
                    return None
                process.suspend()
                stored = {each: set(records(self.tables, project, each)) for each, project in projects.items()}
                gone = self.files.with_name("forgotten")
                self.files.rename(gone)
                self.older.rename(self.files)
                process.kill()
                restored_at = time.monotonic()
                process.wait(10)
                shutil.rmtree(gone)
            except (psutil.Error, DeltaError, OSError, ValueError):
                return None
            finally:
                shutil.rmtree(self.older, ignore_errors=True)
                if process is not None and process.is_running():
                    process.resume()
            return Restore(copied_at, restored_at, stored)
