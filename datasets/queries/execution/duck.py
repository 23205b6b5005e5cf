"""A DuckDB database that can read the files of one snapshot, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from config.lazy import duckdb
from config.lazy import pyarrow as pa
from datasets.queries.errors import QueryProblem, QueryTooLarge, QueryTooSlow, ResultOutOfRange
from datasets.queries.execution import sql
from datasets.queries.execution.snapshot import Snapshot
from datasets.queries.query import Column
from datasets.tables.storage import RecordsUnreadable

_INTERRUPT_SECONDS = 0.05  # the time between two interrupts


@contextmanager
def connection(snapshot: Snapshot, memory_bytes: int, threads: int, seconds: float | None) -> Iterator[Any]:
    """Yield a connection to an empty database in memory. Interrupt its statements after `seconds`."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_bytes}B",
        "threads": threads,
        "temp_directory": "",  # a query that needs more memory fails, instead of writing to the disk
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    database = duckdb.connect(":memory:", config=settings)
    ended, began = Event(), time.monotonic()
    watcher = Thread(target=_interrupt, args=(database, seconds, ended), daemon=True)
    watcher.start()
    try:
        with _translated():
            _confine(database, snapshot)
            yield database
        if seconds is not None and time.monotonic() - began > seconds:
            raise QueryTooSlow("The query took longer than it may.")
    finally:
        ended.set()
        watcher.join()
        database.close()


def _interrupt(database: Any, seconds: float | None, ended: Event) -> None:
    """Interrupt a connection's statements after `seconds`. Do it again and again: new statements may begin."""
    is_over = ended.wait(seconds)
    while not is_over:
        database.interrupt()
        is_over = ended.wait(_INTERRUPT_SECONDS)


def _confine(database: Any, snapshot: Snapshot) -> None:
    """Deny access to the network and to all files except the snapshot's. Lock the settings."""
    if snapshot.has_plain_paths:
        paths = ", ".join(sql.literal(path) for path in snapshot.paths())
        database.execute(f"SET allowed_paths = [{paths}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET TimeZone = 'UTC'")
    database.execute("SET lock_configuration = true")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn DuckDB's errors into ours."""
    try:
        yield
    except duckdb.OutOfMemoryException as failure:
        raise QueryTooLarge(_first_line(failure)) from failure
    except duckdb.InterruptException as failure:
        raise QueryTooSlow(_first_line(failure)) from failure
    except (duckdb.OutOfRangeException, duckdb.ConversionException) as failure:
        detail = "A sum, or another aggregate, is too large for its type. Select fewer rows."
        raise ResultOutOfRange(
            [QueryProblem("select", "aggregates within their types", "a larger value", detail)]
        ) from failure
    except (duckdb.IOException, duckdb.PermissionException, duckdb.InvalidInputException, pa.ArrowException) as failure:
        raise RecordsUnreadable(f"The storage: records cannot be read: {_first_line(failure)}") from failure


def _first_line(failure: Exception) -> str:
    return str(failure).partition("\n")[0]


def attach(database: Any, snapshot: Snapshot, columns: Iterable[Column]) -> None:
    """Create the view `records` of the rows in the snapshot's files. The view has only `columns`.

    A column is null in the files that were written before its field was declared. Call this before each statement.
    """
    wanted = {column.name: column for column in columns}
    if not snapshot.files:
        database.execute(sql.no_rows(wanted.values()))
    elif snapshot.has_plain_paths:
        database.execute(sql.rows_of_files(snapshot.paths(), wanted.values()))
    else:
        source = _through_arrow(database, snapshot, wanted)
        source.project(sql.columns_of(source.columns, wanted.values())).create_view(sql.TABLE, replace=True)


def _through_arrow(database: Any, snapshot: Snapshot, wanted: Iterable[str]) -> Any:
    """Return a relation of the files, which Arrow reads through delta-rs.

    DuckDB cannot open the files itself. For an object store, it would need an extension from the network. It would read
    a path with a character like `*` as a pattern. Arrow may read ahead only a little, so that it needs little memory.
    """
    dataset = snapshot.dataset()
    present = [name for name in wanted if name in dataset.schema.names]
    scanner = dataset.scanner(present, batch_readahead=2, fragment_readahead=1)
    return database.from_arrow(scanner.to_reader())
