"""Stored records as files: NDJSON, CSV and Parquet, made batch by batch and never held whole."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

Batches = Iterator[pa.RecordBatch]


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as Python values, time stamps as text: an offset may lead to a year that Python's dates do not have."""
    columns = [_texts(column) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    found: list[dict[str, Any]] = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
    return found


def _texts(stamps: pa.Array) -> pa.Array:
    text = pc.strftime(stamps.cast(pa.timestamp("us")), "%Y-%m-%dT%H:%M:%SZ")
    return pc.replace_substring(text, ".000000Z", "Z")


def ndjson(source: Batches) -> Iterator[bytes]:
    """One JSON object a line."""
    for batch in source:
        yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(batch)).encode()


def csv(source: Batches) -> Iterator[bytes]:
    """A line of names, and a line a record."""
    return _through(pyarrow.csv.CSVWriter, source)


def parquet(source: Batches) -> Iterator[bytes]:
    """A row group a batch."""
    return _through(pyarrow.parquet.ParquetWriter, source)


class _Taken(io.RawIOBase):
    """A file whose content is taken away as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _through(open_writer: Callable[[Any, pa.Schema], Any], source: Batches) -> Iterator[bytes]:
    out, writer = _Taken(), None
    for batch in source:
        writer = writer or open_writer(out, batch.schema)
        writer.write_batch(batch)
        yield out.take()
    if writer is not None:
        writer.close()
        yield out.take()


# By the ending of the file: content type, and how it is written.
FORMATS: dict[str, tuple[str, Callable[[Batches], Iterator[bytes]]]] = {
    "ndjson": ("application/x-ndjson", ndjson),
    "csv": ("text/csv; charset=utf-8", csv),
    "parquet": ("application/vnd.apache.parquet", parquet),
}
