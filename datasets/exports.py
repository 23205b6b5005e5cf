"""Stored records as files: NDJSON, CSV and Parquet, made batch by batch and never held whole."""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

Batches = Iterator[pa.RecordBatch]


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as Python values, timestamps as text: Python's dates do not have every year that is stored."""
    found: list[dict[str, Any]] = _with_texts(batch).to_pylist()
    return found


def _with_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [_texts(column) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _texts(stamps: pa.Array) -> pa.Array:
    text = pc.strftime(stamps.cast(pa.timestamp("us")), "%Y-%m-%dT%H:%M:%SZ")
    return pc.replace_substring(text, ".000000Z", "Z")


# In UTF-8: DEL and C1, which JSON allows in a string and a terminal obeys, and what changes the order or lines of text.
_ACTIVE = re.compile(
    b"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]",
)
_encoder = msgspec.json.Encoder()


def ndjson(source: Batches) -> Iterator[bytes]:
    """Yield one JSON object a line, with characters that a terminal acts on as JSON's escapes."""
    for batch in source:
        yield _ACTIVE.sub(_escaped, _encoder.encode_lines(rows(batch)))


def _escaped(match: "re.Match[bytes]") -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def csv(source: Batches) -> Iterator[bytes]:
    """Yield a line of names, and a line a record."""
    return _through(pyarrow.csv.CSVWriter, source)


def parquet(source: Batches) -> Iterator[bytes]:
    """Yield a row group a batch."""
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
        """Return what was written since the last time."""
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
