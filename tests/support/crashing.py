"""Processes that run the service's own code and are killed where a test says.

The product has no hooks for this: it is wrapped here, in the process that is to die. Processes are forked from one
that has imported everything and opened nothing, so that each starts in milliseconds.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from config.common import redis
from datasets.models import Dataset
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream, turns
from ingest.storing import drain as drains
from ingest.storing import ledger, quarantine, upkeep

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["config.web.wsgi", "tests.support.crashing"])

# What a test may have changed, and a process of its must know.
_PASSED_ON = ("STORAGE_URL", "DRAIN_MAX_RECORDS", "DRAIN_MAX_BYTES", "DRAIN_LEASE_SECONDS", "VACUUM_RETENTION_HOURS")


def start(work: Callable[..., None], *args: Any) -> ForkServerProcess:
    """Run `work` (a function of a module) in a process of its own, on the test's Redis, database and storage."""
    place = {name: getattr(settings, name) for name in _PASSED_ON}
    process = PROCESSES.Process(target=_enter, args=(place, connection.settings_dict["NAME"], work, args), daemon=True)
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Wait for its end; its exit code, negative for the signal that killed it."""
    process.join(60)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
        raise TimeoutError("it did not end")
    return code


def _enter(place: dict[str, Any], database: str, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    for name, value in place.items():
        setattr(settings, name, value)
    connection.settings_dict["NAME"] = database
    try:
        work(*args)
    finally:
        connection.close()


# -- dying at a step ----------------------------------------------------------------------------------


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str) -> None:
    def dying(*args: Any, **kwargs: Any) -> Any:
        _die()

    setattr(owner, name, dying)


def _after(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        _die()

    setattr(owner, name, dying)


def _when_a_file_is_written() -> None:
    """Die as soon as there is a data file more than there was: the commit that names it comes after."""
    root = Path(settings.STORAGE_URL)
    before = len(data_files(root))

    def watch() -> None:
        while len(data_files(root)) == before:
            pass
        _die()

    threading.Thread(target=watch, daemon=False).start()  # should the drain be done first, the process waits for it


def data_files(root: Path) -> list[Path]:
    """Every Parquet file under a directory, named in a commit or not."""
    return [path for path in root.glob("project_*/dataset_*/*/*.parquet") if "_delta_log" not in path.parts]


STEPS: dict[str, Callable[[], None]] = {
    "before the table is made": lambda: _before(DatasetTable, "create"),
    "after the table was made": lambda: _after(DatasetTable, "create"),
    "before it binds the table": lambda: _before(DatasetTable, "set_table_id"),
    "after it bound the table": lambda: _after(DatasetTable, "set_table_id"),
    "before it recounts": lambda: _before(ledger, "recount"),
    "after it recounted": lambda: _after(ledger, "recount"),
    "before it keeps ahead": lambda: _before(stream, "keep_ahead"),
    "after it kept ahead": lambda: _after(stream, "keep_ahead"),
    "before it renumbers": lambda: _before(stream, "renumber"),
    "after it renumbered": lambda: _after(stream, "renumber"),
    "before the write": lambda: _before(DatasetTable, "append"),
    "between write and commit": _when_a_file_is_written,
    "after the commit": lambda: _after(DatasetTable, "append"),
    "after the trim": lambda: _after(stream, "trim"),
    "before it settles": lambda: _before(turns, "settle"),
    "after it settled": lambda: _after(turns, "settle"),
    "after it wrote to quarantine": lambda: _after(quarantine, "put"),
    "before it wrote to quarantine": lambda: _before(QuarantinedEntry.objects, "bulk_create"),
}


def drain_dying(step: str, dataset_id: int) -> None:
    """Drain, and be killed at a step."""
    STEPS[step]()
    drains.drain(dataset_id)


# -- other work for a process -------------------------------------------------------------------------


def drain_until_empty(dataset_id: int) -> None:
    """Drain as often as it takes, as workers do that find the dataset due again; a lock that is held is waited for."""
    while redis.client().xlen(redis_keys.stream(dataset_id)):
        drains.drain(dataset_id)


def drain_without_lock(dataset_id: int) -> None:
    """Drain, whether or not another has claimed the dataset."""
    dataset = Dataset.objects.get(pk=dataset_id)
    while drains.drain_once(dataset) is not None:
        pass


def race(dataset_id: int, barrier: Any, results: Any, until: Any) -> None:
    """Drain without a lock, against others who do the same, until told that no more will come and nothing is left.

    Put (rows written, commits refused) into `results`.
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
    """Whatever happens, none of the processes outlives the block."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition, and return what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come to be")
        time.sleep(0.005)


def tidy_for_ever() -> None:
    """Tidy every table, again and again, until killed."""
    while True:
        upkeep.tidy_tables(everything=True)
