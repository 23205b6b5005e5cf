"""From queue entries to the columns of a table: in bulk, with no work per row that can be done per commit."""

import sys
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets.schemas.field_types import FIELD_TYPES, TIMESTAMP, timestamps
from datasets.schemas.schema import CompiledSchema
from datasets.tables.layout import BASE_COLUMNS, PARTITION
from ingest.queue.formats import ARRAY, LINES, OBJECT, lines_of
from ingest.queue.stream import Entry

# More than any stack of ours is deep when it parses; some 100 KB of C stack.
_DEEPER = 1000

_PARSE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Undecodable(Exception):
    """An entry that is not what its schema version says."""


def to_table(schema: CompiledSchema, entries: Sequence[Entry], *, project_id: int, dataset_id: int) -> pa.Table:
    """The rows of entries of one schema version, in their order. Raises Undecodable where one of them is.

    `id` is `<ms>-<seq>-<index>` of the acceptance, padded to sort; `ingested_at` and the partition are its time. All
    follow from the stream entry, so a drain that is repeated writes the very same rows.
    """
    records = decode(schema, entries)
    total = len(records)
    counts = np.fromiter((entry.count for entry in entries), np.int64, len(entries))
    of_entry = pa.array(np.repeat(np.arange(len(entries)), counts))
    index = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    accepted = [entry.origin.split("-") for entry in entries]
    prefix = pa.array([f"{int(ms):013}-{int(seq):07}-" for ms, seq in accepted], pa.string())
    ingested = pa.array([int(ms) * 1000 for ms, _ in accepted], pa.int64()).cast(TIMESTAMP)
    base: dict[str, Any] = {
        "id": pc.binary_join_element_wise(
            prefix.take(of_entry), pc.utf8_lpad(pa.array(index).cast(pa.string()), 5, "0"), ""
        ),
        "project_id": pa.array(np.full(total, project_id)),
        "dataset_id": pa.array(np.full(total, dataset_id)),
        "timestamp": _column(timestamps, records, "timestamp"),
        "ingested_at": ingested.take(of_entry),
        "context": _column(_texts, records, "context"),
        "__traceId": pa.array([entry.trace_id for entry in entries], pa.string()).take(of_entry),
    }
    columns = [base[field.name] for field in BASE_COLUMNS]
    fields = list(BASE_COLUMNS)
    for number, field in enumerate(schema.fields):
        field_type = FIELD_TYPES[field.type]
        columns.append(_column(field_type.column, records, f"f{number}"))
        fields.append(pa.field(field.name, field_type.arrow))
    columns.append(ingested.cast(pa.timestamp("us")).cast(pa.date32()).take(of_entry))
    fields.append(pa.field(PARTITION, pa.date32()))
    return pa.table(columns, schema=pa.schema(fields))


def first_id(entry: Entry) -> str:
    """Return the id of an entry's first row. All rows of an entry are in one commit, so one tells of all."""
    ms, seq = entry.origin.split("-")
    return f"{int(ms):013}-{int(seq):07}-{0:05}"


def decode(schema: CompiledSchema, entries: Sequence[Entry]) -> list[Any]:
    """The records of entries, in their order. Raises Undecodable."""
    if len(entries) > 1 and all(entry.format == OBJECT and entry.count == 1 for entry in entries):
        records = _parse(schema, b"[%b]" % b",".join([entry.body for entry in entries]))
        _check_count(records, len(entries))
        return records
    records = []
    for entry in entries:
        found = _parse(schema, _as_array(entry))
        _check_count(found, entry.count)
        records += found
    return records


def _as_array(entry: Entry) -> bytes:
    if entry.format == ARRAY:
        return entry.body
    if entry.format == OBJECT:
        return b"[%b]" % entry.body
    if entry.format == LINES:
        return b"[%b]" % b",".join(lines_of(entry.body))
    raise Undecodable(f"unknown format {entry.format!r}")


def _parse(schema: CompiledSchema, body: bytes) -> list[Any]:
    # How deep a body may nest depends on the stack it is parsed on; what a web process could parse on its own must not
    # be too deep for a worker's.
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + _DEEPER)
    try:
        return schema.queued.decode(body)
    except _PARSE_ERRORS as failure:
        raise Undecodable(f"the body does not match its schema version: {failure}") from failure
    finally:
        sys.setrecursionlimit(limit)


def _check_count(records: Sequence[Any], count: int) -> None:
    if len(records) != count or not records:
        raise Undecodable(f"the body holds {len(records)} records, not {count}")


def _column(convert: Any, records: Sequence[Any], attribute: str) -> pa.Array:
    try:
        return convert(list(map(attrgetter(attribute), records)))
    except (msgspec.ValidationError, pa.ArrowInvalid) as failure:
        raise Undecodable(f"a value does not match its schema version: {failure}") from failure


def _texts(contexts: Sequence[Any]) -> pa.Array:
    """JSON texts as a column. They are joined and split by NUL, which no JSON text holds: an object less per row."""
    joined = pa.array([b"\0".join(contexts)], pa.binary()).cast(pa.string())
    return pc.split_pattern(joined, "\0").values
