"""Run the service's code in processes that are killed at a step that the test chooses.

The product has no hooks for this: this module wraps the product's functions in the process that dies. Each process is
forked from a process that has imported everything and opened nothing, so it starts within milliseconds.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from config.common import redis
from datasets import services
from datasets.models import Dataset
from datasets.tables import data_files as table_files
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream, turns
from ingest.storing import drain as drains
from ingest.storing import ledger, quarantine, upkeep

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["config.web.asgi", "tests.support.processes.crashing"])

# Settings that a test may have changed. Its processes get the same values.
_PASSED_ON = ("STORAGE_URL", "DRAIN_MAX_RECORDS", "DRAIN_MAX_BYTES", "DRAIN_LEASE_SECONDS", "VACUUM_RETENTION_HOURS")


def start(work: Callable[..., None], *args: Any) -> ForkServerProcess:
    """Run `work`, a function of a module, in a new process with the test's Redis, database and storage."""
    place = {name: getattr(settings, name) for name in _PASSED_ON}
    process = PROCESSES.Process(target=_enter, args=(place, connection.settings_dict["NAME"], work, args), daemon=True)
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Wait until a process ends. Return its exit code, or the negative number of the signal that killed it."""
    process.join(60)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
        raise TimeoutError("the process did not end")
    return code


def _enter(place: dict[str, Any], database: str, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    for name, value in place.items():
        setattr(settings, name, value)
    connection.settings_dict["NAME"] = database
    try:
        work(*args)
    finally:
        connection.close()


# -- killed at a step ----------------------------------------------------------------------------------


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str) -> None:
    def dying(*args: Any, **kwargs: Any) -> Any:
        _die()

    setattr(owner, name, dying)


def _after(owner: Any, name: str, times: int = 1) -> None:
    original = getattr(owner, name)
    calls = count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        if next(calls) == times:
            _die()
        return found

    setattr(owner, name, dying)


def data_files(root: Path) -> list[Path]:
    """Return every Parquet file under a directory, whether or not a commit names it."""
    return [path for path in root.glob("project_*/dataset_*/*/*.parquet") if "_delta_log" not in path.parts]


def _after_the_third_commit() -> None:
    drains._PASS_SECONDS = 60.0
    _after(DatasetTable, "append", times=3)


STEPS: dict[str, Callable[[], None]] = {
    "before the marker is noted": lambda: _before(services, "note_marker"),
    "after the marker was noted": lambda: _after(services, "note_marker"),
    "before the table is created": lambda: _before(DatasetTable, "create"),
    "after the table was created": lambda: _after(DatasetTable, "create"),
    "before the table is bound": lambda: _before(DatasetTable, "set_table_id"),
    "after the table was bound": lambda: _after(DatasetTable, "set_table_id"),
    "before the recount": lambda: _before(ledger, "recount"),
    "after the recount": lambda: _after(ledger, "recount"),
    "before keep_ahead": lambda: _before(stream, "keep_ahead"),
    "after keep_ahead": lambda: _after(stream, "keep_ahead"),
    "before the renumbering": lambda: _before(stream, "renumber"),
    "after the renumbering": lambda: _after(stream, "renumber"),
    "before the write": lambda: _before(DatasetTable, "append"),
    "between write and commit": lambda: _after(table_files, "write"),
    "before the draft is committed": lambda: _before(os, "link"),
    "after the draft was committed": lambda: _after(os, "link"),
    "after the commit": lambda: _after(DatasetTable, "append"),
    "after the third commit": _after_the_third_commit,
    "after the trim": lambda: _after(stream, "trim"),
    "before the turn is settled": lambda: _before(turns, "settle"),
    "after the turn was settled": lambda: _after(turns, "settle"),
    "after the write to quarantine": lambda: _after(quarantine, "put"),
    "before the write to quarantine": lambda: _before(QuarantinedEntry.objects, "bulk_create"),
}


def drain_dying(step: str, *dataset_ids: int) -> None:
    """Drain, and die at a step."""
    STEPS[step]()
    drains.drain(*dataset_ids)


def drain_dying_of(marks: Sequence[bytes], most: int, *dataset_ids: int) -> None:
    """Drain, and die as soon as one of the marks is in a body to convert, or if there are more than `most` bodies."""
    module: Any = drains
    convert = module.convert

    def dying(dataset: Any, versions: Any, columns: Any, entries: Sequence[stream.Entry]) -> Any:
        if len(entries) > most or any(mark in entry.body for mark in marks for entry in entries):
            _die()
        return convert(dataset, versions, columns, entries)

    module.convert = dying
    drains.drain(*dataset_ids)


# -- other work for processes -------------------------------------------------------------------------


def drain_until_empty(dataset_id: int) -> None:
    """Drain until the queue is empty, as workers do. Wait while another process holds the lock."""
    while redis.client().xlen(redis_keys.stream(dataset_id)):
        drains.drain(dataset_id)


def drain_without_lock(dataset_id: int) -> None:
    """Drain, even if another process has locked the dataset."""
    dataset = Dataset.objects.get(pk=dataset_id)
    while drains.drain_once(dataset) is not None:
        pass


def race(dataset_id: int, barrier: Any, results: Any, until: Any) -> None:
    """Drain without a lock, at the same time as other processes, until `until` is set and the queue is empty.

    Put the number of rows written and the number of commits refused into `results`.
    """
    dataset = Dataset.objects.get(pk=dataset_id)
    written = refused = 0
    barrier.wait(60)
    while True:
        last = until.is_set()
        try:
            stored = drains.drain_once(dataset)
        except ConcurrentCommit:
            refused += 1
            continue
        except stream.AnotherGeneration:
            continue
        written += stored.rows if stored else 0
        if stored is None and last:
            break
    results.put((written, refused))


@contextmanager
def running(*processes: ForkServerProcess) -> Iterator[None]:
    """Run the block, then kill the processes."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until a condition is true. Return its value."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not become true")
        time.sleep(0.005)


def tidy_for_ever() -> None:
    """Tidy all tables repeatedly until the process is killed."""
    while True:
        upkeep.tidy_tables(everything=True)
