"""Write rows to a Parquet file of a table in a directory, and describe the file for the table's log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Any
from uuid import uuid4

import msgspec

from config.common import clock
from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from config.lazy import pyarrow_parquet as pq
from datasets.tables.layout import PARTITION

# The log has statistics of at most this number of columns, like the logs of other Delta Lake writers. Readers use the
# statistics to skip files.
_MAX_COLUMNS = 32
# Longer texts are left out of the statistics, so that the log stays small.
_MAX_TEXT = 64
# Columns in which a value rarely occurs twice. A dictionary of their values would only cost time.
_WITHOUT_DICTIONARY = {"id", "context"}


def is_writable(rows: pa.Table, columns: Mapping[str, pa.DataType]) -> bool:
    """Return whether `write` can write the rows to a table with these columns. All rows must be of one day."""
    days = pc.min_max(rows[PARTITION]).as_py()
    return days["min"] == days["max"] and all(columns.get(each.name) == each.type for each in rows.schema)


def write(uri: str, rows: pa.Table, columns: Mapping[str, pa.DataType]) -> dict[str, Any]:
    """Write rows to a new file. Return the action that adds it to the table. Raise OSError if the storage fails."""
    day: date = rows[PARTITION][0].as_py()
    folder = f"{PARTITION}={day.isoformat()}"
    path = f"{folder}/part-{uuid4()}.snappy.parquet"
    contents = _in_columns(rows, columns)
    try:
        statistics = _write_file(f"{uri}/{path}", contents)
    except FileNotFoundError:
        # Make only the folder of the day. If the table is gone, for example because a disk was unmounted, this fails.
        with suppress(FileExistsError):
            os.mkdir(f"{uri}/{folder}")
        statistics = _write_file(f"{uri}/{path}", contents)
    added = {
        "path": path,
        "partitionValues": {PARTITION: day.isoformat()},
        "size": os.stat(f"{uri}/{path}").st_size,
        "modificationTime": clock.milliseconds(),
        "dataChange": True,
        "stats": msgspec.json.encode(statistics).decode(),
    }
    return {"add": added}


def delete(uri: str, action: Mapping[str, Any]) -> None:
    """Delete the file of an action that was not committed."""
    os.unlink(f"{uri}/{action['add']['path']}")


def _in_columns(rows: pa.Table, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Return the rows with all columns of the table, in the table's order. The path has the partition instead."""
    names = set(rows.column_names)
    return pa.table(
        {
            name: rows[name] if name in names else pa.nulls(rows.num_rows, arrow_type)
            for name, arrow_type in columns.items()
            if name != PARTITION
        }
    )


def _write_file(path: str, rows: pa.Table) -> dict[str, Any]:
    """Write a file. Return its statistics."""
    texts = [each.name for each in rows.schema if pa.types.is_string(each.type) or pa.types.is_integer(each.type)]
    metadata: list[Any] = []
    with pa.OSFile(path, "wb") as file:
        pq.write_table(
            rows,
            file,
            compression="snappy",
            store_schema=False,
            use_dictionary=[name for name in texts if name not in _WITHOUT_DICTIONARY],
            metadata_collector=metadata,
        )
    return _statistics(metadata[0], rows)


def _statistics(metadata: Any, rows: pa.Table) -> dict[str, Any]:
    """Return the statistics of a file for the log: the number of rows, and the bounds and nulls of its columns."""
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    for number in range(metadata.num_columns):
        name = metadata.row_group(0).column(number).path_in_schema
        if name not in rows.column_names or len(nulls) == _MAX_COLUMNS:
            continue  # the column is a part of a nested column, or there are _MAX_COLUMNS columns already
        found = [group.column(number).statistics for group in groups]
        if any(each is None for each in found):
            continue
        nulls[name] = sum(each.null_count for each in found)
        bounded = [each for each in found if each.has_min_max]
        bounds = (
            [_bound(min(each.min for each in bounded)), _bound(max(each.max for each in bounded))] if bounded else []
        )
        if len(bounded) == len(found) and None not in bounds:
            least[name], greatest[name] = bounds
    return {"numRecords": rows.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _bound(value: Any) -> Any:
    """Return the least or greatest value of a column as the log writes it, or None if the log leaves it out."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
