"""Answer a query from one version of a table, with DuckDB.

DuckDB can read the files that the table's log names. It has no access to other files or to the network, and cannot
change its own settings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from config.lazy import pyarrow as pa
from datasets.queries.errors import InvalidQuery, QueryProblem
from datasets.queries.execution import duck, results, snapshot, sql
from datasets.queries.execution.snapshot import Location, Snapshot
from datasets.queries.parsing import cursors
from datasets.queries.query import Column, Condition, Query

DEFAULT_MEMORY_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Stats:
    """How long the answer to a query took, and how much it read.

    Attributes:
        elapsed_ms: Milliseconds from the call of `run` to its end.
        files_scanned: The number of files that were read. By their statistics, the other files have no matching rows.
        bytes_scanned: The size of the files that were read.
        table_version: The version of the table, or -1 if there is no table yet.
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
        rows: The rows, with the names and the order of `columns`.
        truncated: Whether there are more rows than the limit.
        cursor: The cursor to send for the next page. None if there is no next page.
        stats: How long the answer took, and how much it read.
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
        memory_bytes: How much memory DuckDB may use. Arrow and Python need additional memory.
        threads: How many threads DuckDB may use.
        seconds: How long DuckDB may take. DuckDB cannot interrupt a read that hangs.

    Raises:
        InvalidQuery: The cursor's record is no longer in the table, or a result is out of range (ResultOutOfRange).
        QueryTooLarge: The query needs more than `memory_bytes`.
        QueryTooSlow: The query takes longer than `seconds`.
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
        query = _limited_to_page(database, query, found, columns)
    duck.attach(database, snapshot.narrowed(found, query), columns)
    statement, parameters = sql.result(query)
    return database.sql(statement, params=parameters).to_arrow_table()


def _find_position(database: Any, query: Query, found: Snapshot, columns: Sequence[Column]) -> None:
    """Put the sort keys of the cursor's record into the table POSITION. Raise InvalidQuery if the record is gone."""
    duck.attach(database, found, columns)
    database.execute(*sql.position(query))
    is_there = database.table(sql.POSITION).shape[0] == 1
    if not is_there or found.version < query.version:
        detail = "The record that the cursor points to is no longer in the table. Begin again without “cursor”."
        raise InvalidQuery(
            [QueryProblem("cursor", "the cursor of a record that is in the table", "another one", detail)]
        )


def _limited_to_page(database: Any, query: Query, found: Snapshot, columns: Sequence[Column]) -> Query:
    """Return the query with one more condition, which excludes most records that come after its page.

    Without the condition, DuckDB sorts whole records. It then keeps most of them in memory, for example if it reads the
    smallest ones first, and the query wants the greatest. To find the condition, DuckDB sorts only one column, which
    needs little memory.
    """
    duck.attach(database, found, columns)
    statement, parameters = sql.boundary(query)
    values = database.sql(statement, params=parameters).to_arrow_table()["k0"].to_pylist()
    key = query.order_by[0]
    if not values or values[0] is None or key.by.column is None:
        return query
    condition = Condition(key.by.column, ">=" if key.descending else "<=", (values[0],))
    return replace(query, where=(*query.where, condition))
