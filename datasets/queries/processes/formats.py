"""The formats of a result: JSON, CSV, NDJSON and an Arrow stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import msgspec

from config.lazy import pyarrow as pa
from datasets.tables import exports

if TYPE_CHECKING:  # the engine's packages are large, and a web process needs only the names of the formats
    from datasets.queries.engine import Result

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"

# The headers of the answer that describe the result. Only the JSON format also has these values in its body.
HEADERS = (
    "Query-Rows",
    "Query-Truncated",
    "Query-Cursor",
    "Query-Elapsed-Ms",
    "Query-Files-Scanned",
    "Query-Bytes-Scanned",
    "Query-Table-Version",
)

_ROWS_AT_ONCE = 50
_RAW_JSON = ("json", "context")  # types that are stored as the JSON text that was sent

# Decimals are JSON numbers with all their digits.
_encode = msgspec.json.Encoder(decimal_format="number").encode


def headers(result: Result) -> dict[str, str]:
    """Return the headers that describe a result."""
    stats = result.stats
    values = (
        result.rows.num_rows,
        str(result.truncated).lower(),
        result.cursor,
        stats.elapsed_ms,
        stats.files_scanned,
        stats.bytes_scanned,
        stats.table_version,
    )
    return {name: str(value) for name, value in zip(HEADERS, values, strict=True) if value is not None}


def write(result: Result, media_type: str, file: IO[bytes]) -> None:
    """Write a result to a file."""
    for part in _WRITERS[media_type](result):
        file.write(part)


def _json(result: Result) -> Iterator[bytes]:
    yield b'{"columns":' + _encode(result.columns) + b',"rows":['
    separator = b""
    for batch in _batches(result):
        for row in _rows(result, batch):
            yield separator + _encode(row)
            separator = b","
    figures: dict[str, Any] = {"row_count": result.rows.num_rows, "truncated": result.truncated}
    figures |= {} if result.cursor is None else {"cursor": result.cursor}
    yield b"]," + _encode({**figures, "stats": result.stats}).removeprefix(b"{")


def _ndjson(result: Result) -> Iterator[bytes]:
    for batch in _batches(result):
        yield exports.without_controls(b"".join(_encode(row) + b"\n" for row in _rows(result, batch)))


def _csv(result: Result) -> Iterator[bytes]:
    return exports.csv(_batches(result))


def _arrow(result: Result) -> Iterator[bytes]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, result.rows.schema) as writer:
        writer.write_table(result.rows)
    yield sink.getvalue()


def _batches(result: Result) -> Iterator[pa.RecordBatch]:
    """Return the rows in small batches. Without rows, return an empty batch: CSV still needs the line of names."""
    batches = result.rows.to_batches(max_chunksize=_ROWS_AT_ONCE)
    return iter(batches or [pa.RecordBatch.from_pylist([], schema=result.rows.schema)])


def _rows(result: Result, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield rows as Python values for JSON."""
    raw = [column.name for column in result.columns if column.type in _RAW_JSON]
    for row in exports.rows(batch):
        for name in raw:
            if row[name] is not None:  # raw line breaks can become spaces: JSON has them only between values
                row[name] = msgspec.Raw(row[name].replace("\n", " ").replace("\r", " ").encode())
        yield row


_WRITERS: dict[str, Callable[[Result], Iterator[bytes]]] = {JSON: _json, CSV: _csv, NDJSON: _ndjson, ARROW: _arrow}
