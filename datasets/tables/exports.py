"""Write stored records as NDJSON, CSV or Parquet, one batch at a time, so that memory stays small."""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from config.lazy import pyarrow_csv, pyarrow_parquet
from datasets.tables.layout import is_version

if TYPE_CHECKING:  # query processes run without Django's models
    from datasets.models import Dataset

Batches = Iterator["pa.RecordBatch"]
Writer = Callable[[Batches], Iterator[bytes]]


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as Python values by column name.

    Timestamps are RFC 3339 texts in UTC, because a table may hold years that Python's datetime cannot.
    """
    found: list[dict[str, Any]] = _with_timestamps_as_texts(batch).to_pylist()
    return found


def _with_timestamps_as_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(map(_with_texts, batch.columns)), names=batch.schema.names)


def _with_texts(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return _timestamp_texts(column)
    if not pa.types.is_list(column.type) or not pa.types.is_timestamp(column.type.value_type):
        return column
    texts = iter(_timestamp_texts(column.flatten()).to_pylist())
    lengths = column.value_lengths().to_pylist()
    lists = [None if length is None else list(itertools.islice(texts, length)) for length in lengths]
    return pa.array(lists, pa.list_(pa.string()))


def _timestamp_texts(stamps: pa.Array) -> pa.Array:
    text = pc.strftime(stamps.cast(pa.timestamp("us")), "%Y-%m-%dT%H:%M:%SZ")
    return pc.replace_substring(text, ".000000Z", "Z")


# Characters, in UTF-8, that JSON allows in a string but a terminal acts on: DEL, C1, and marks of text direction.
_ACTIVE = re.compile(b"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
# A search for these beginnings is 50 times as fast as a search for the pattern.
_ACTIVE_BEGINS = (b"\x7f", b"\xc2", b"\xd8\x9c", b"\xe2\x80", b"\xe2\x81")
_encoder = msgspec.json.Encoder()


def ndjson(source: Batches) -> Iterator[bytes]:
    """Yield one JSON object per line. Characters that a terminal acts on become JSON escapes."""
    for batch in source:
        yield without_controls(_encoder.encode_lines(rows(batch)))


def without_controls(lines: bytes) -> bytes:
    """Return lines of JSON with JSON escapes in place of the characters that a terminal acts on."""
    return _ACTIVE.sub(_escaped, lines) if any(begin in lines for begin in _ACTIVE_BEGINS) else lines


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def ndjson_to_send(source: Batches, json_columns: Collection[str] = ()) -> Iterator[bytes]:
    """Yield one JSON object per line with what a client sends: `timestamp`, `context` and fields that have a value.

    The batch endpoint accepts these lines again if the schema is still the same.

    Args:
        source: The records.
        json_columns: The columns whose texts are JSON, in addition to `context`.
    """
    for batch in source:
        ours = [each.name for each in batch.schema if each.name in _NOT_SENT or is_version(each.name, each.type)]
        sent = [_as_sent(row, ("context", *json_columns)) for row in rows(batch.drop_columns(ours))]
        yield without_controls(_encoder.encode_lines(sent))


_NOT_SENT = {"id", "project_id", "dataset_id", "ingested_at", "__traceId"}


def _as_sent(row: dict[str, Any], json_columns: Collection[str]) -> dict[str, Any]:
    sent = {name: value for name, value in row.items() if value is not None}
    for name in json_columns:
        if name in sent:  # in JSON, raw line breaks occur only between values
            sent[name] = msgspec.Raw(sent[name].replace("\n", " ").replace("\r", " ").encode())
    return sent


def json_columns(dataset: Dataset) -> set[str]:
    """Return the columns of fields of the type json, also of removed ones."""
    return {field.name for version in dataset.versions.all() for field in version.field_list() if field.type == "json"}


def csv(source: Batches, *, raw: bool = False, bom: bool = False) -> Iterator[bytes]:
    """Yield a line of column names, then one line per record. Timestamps are RFC 3339 texts, which the API accepts.

    Args:
        source: The records.
        raw: Do not change texts that a spreadsheet would run as formulas. Otherwise they get a `'` in front.
        bom: Begin with a byte order mark, which tells spreadsheets that the file is UTF-8.
    """
    if bom:
        yield codecs.BOM_UTF8
    yield from _written(pyarrow_csv.CSVWriter, (_for_csv(batch, raw=raw) for batch in source))


def _for_csv(batch: pa.RecordBatch, *, raw: bool) -> pa.RecordBatch:
    columns = [
        _without_formulas(column) if pa.types.is_string(kind) and not raw else _without_lists(column)
        for column, kind in zip(_with_timestamps_as_texts(batch).columns, batch.schema.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _without_lists(column: pa.Array) -> pa.Array:
    """Return arrays as JSON texts, because CSV has no arrays. They begin with a bracket, so they are no formulas."""
    if not pa.types.is_list(column.type):
        return column
    texts = [None if each is None else _encoder.encode(each).decode() for each in column.to_pylist()]
    return pa.array(texts, pa.string())


def _without_formulas(texts: pa.Array) -> pa.Array:
    """Put a `'` before texts that spreadsheets would run as formulas. Columns of numbers need no `'`.

    If there is already a `'` before such a text, put another one before it. So an import can remove exactly the `'`
    that was added.
    """
    return pc.replace_substring_regex(texts, r"\A('*[=+\-@\t\r])", r"'\1")


def parquet(source: Batches) -> Iterator[bytes]:
    """Yield a Parquet file with one row group per batch."""
    return _written(pyarrow_parquet.ParquetWriter, source)


class _Buffer(io.RawIOBase):
    """A file in memory. `take` returns and removes its content, even while a writer still writes to it."""

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
        """Return what was written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _written(open_writer: Callable[[Any, pa.Schema], Any], source: Batches) -> Iterator[bytes]:
    """Yield the bytes that a PyArrow writer makes of the batches."""
    out, writer = _Buffer(), None
    for batch in source:
        writer = writer or open_writer(out, batch.schema)
        writer.write_batch(batch)
        yield out.take()
    if writer is not None:
        writer.close()
        yield out.take()


# For each extension of a file name, the content type and the function that writes the format.
FORMATS: dict[str, tuple[str, Writer]] = {
    "ndjson": ("application/x-ndjson", ndjson),
    "csv": ("text/csv; charset=utf-8", csv),
    "parquet": ("application/vnd.apache.parquet", parquet),
}
# Options of some formats; other formats ignore them.
OPTIONS: dict[str, str] = {
    "to_send": "ndjson: only what clients send, so that it can be sent again",
    "raw": "csv: do not change texts that a spreadsheet would run as formulas",
    "bom": "csv: begin with a byte order mark, so that spreadsheets read UTF-8",
}


def writer(dataset: Dataset, file_format: str, options: Collection[str] = ()) -> tuple[str, Writer]:
    """Return the content type of a format, and the function that writes a dataset's records with these OPTIONS."""
    content_type, write = FORMATS[file_format]
    if file_format == "csv":
        return content_type, partial(csv, raw="raw" in options, bom="bom" in options)
    if file_format == "ndjson" and "to_send" in options:
        return content_type, partial(ndjson_to_send, json_columns=json_columns(dataset))
    return content_type, write
