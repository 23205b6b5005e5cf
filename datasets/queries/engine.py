"""Answer a query from one version of a table, with DuckDB.

DuckDB gets the files that the table's log names, and access to nothing else: not to other files, not to the network,
and not to its own configuration.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from config.lazy import pyarrow as pa
from datasets.queries.errors import InvalidQuery, Problem
from datasets.queries.execution import duck, results, snapshot, sql
from datasets.queries.execution.snapshot import Location, Snapshot
from datasets.queries.parsing import cursors
from datasets.queries.query import Column, Condition, Query

DEFAULT_MEMORY_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Stats:
    """What answering a query took.

    Attributes:
        elapsed_ms: Milliseconds from the call of `run` to its end.
        files_scanned: The number of files that were read, the others were excluded by their statistics.
        bytes_scanned: The size of these files.
        table_version: The version of the table, -1 if there is no table yet.
    """

    elapsed_ms: int
    files_scanned: int
    bytes_scanned: int
    table_version: int


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of a result: its name, and its type as a schema writes it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a query.

    Attributes:
        columns: The columns, in the order of `select`.
        rows: The rows. Its columns have the names and the order of `columns`.
        truncated: Whether there are more rows than the limit.
        cursor: What the query for the next page has in `cursor`. None if there is no next page.
        stats: What the answer took.
    """

    columns: tuple[ResultColumn, ...]
    rows: pa.Table
    truncated: bool
    cursor: str | None
    stats: Stats


def run(
    query: Query,
    location: Location,
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    threads: int = 1,
    seconds: float | None = None,
) -> Result:
    """Return the answer to a query from the newest version of a table. A table that does not exist has no rows.

    Args:
        query: The checked query.
        location: Where the table is.
        memory_bytes: How much memory DuckDB may use. What Arrow and Python need comes on top.
        threads: How many threads may work.
        seconds: How long DuckDB may take. It cannot interrupt a read that hangs.

    Raises:
        InvalidQuery: The cursor's record is no longer there, or a result is out of range (ResultOutOfRange).
        QueryTooLarge: The query needs more memory.
        QueryTooSlow: The query takes longer.
        TableGone, ForeignTable, OSError, deltalake.exceptions.DeltaError: The table cannot be read.
    """
    began = time.perf_counter()
    found = snapshot.read(location, query)
    with duck.connection(found, memory_bytes, threads, seconds) as database:
        rows = _rows(database, query, found)
    truncated = rows.num_rows > query.limit
    rows = rows.slice(0, query.limit)
    cursor = None
    if query.is_plain and truncated:
        cursor = cursors.write(query, rows.column(len(query.select))[-1].as_py(), found.version)
    table = results.checked(rows, query.select)
    stats = Stats(
        elapsed_ms=round((time.perf_counter() - began) * 1000),
        files_scanned=len(found.files),
        bytes_scanned=sum(each.size for each in found.files),
        table_version=found.version,
    )
    return Result(tuple(ResultColumn(each.name, each.type) for each in query.select), table, truncated, cursor, stats)


def _rows(database: Any, query: Query, found: Snapshot) -> pa.Table:
    """Return the rows that `sql.result` selects."""
    columns = tuple(sql.used_columns(query))
    if query.after is not None:
        _find_position(database, query, found, columns)
    if query.is_plain:
        query = _bounded(database, query, found, columns)
    duck.attach(database, snapshot.narrowed(found, query), columns)
    statement, parameters = sql.result(query)
    return database.sql(statement, params=parameters).to_arrow_table()


def _bounded(database: Any, query: Query, found: Snapshot, columns: Sequence[Column]) -> Query:
    """Return a query with a condition that leaves out records far behind the page.

    To sort whole records, DuckDB would need memory for most of those that it meets in ascending order, if the greatest
    are wanted. It needs little to sort the values of one column, which give the condition.
    """
    duck.attach(database, found, columns)
    statement, parameters = sql.boundary(query)
    values = database.sql(statement, params=parameters).to_arrow_table()["k0"].to_pylist()
    key = query.order_by[0]
    if not values or values[0] is None or key.by.column is None:
        return query
    condition = Condition(key.by.column, ">=" if key.descending else "<=", (values[0],))
    return replace(query, where=(*query.where, condition))


def _find_position(database: Any, query: Query, found: Snapshot, columns: Sequence[Column]) -> None:
    """Note the sort keys of the record after which the page begins. Raise InvalidQuery if there is no such record."""
    duck.attach(database, found, columns)
    database.execute(*sql.position(query))
    is_there = database.table(sql.POSITION).shape[0] == 1
    if not is_there or found.version < query.version:
        detail = "The record that the cursor points to is no longer in the table. Begin again without “cursor”."
        raise InvalidQuery([Problem("cursor", "the cursor of a record that is in the table", "another one", detail)])
