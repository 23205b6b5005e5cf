"""Convert queue entries to rows of a table. The work is done for whole columns, not for each row."""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from config.lazy import numpy as np
from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from datasets.models import Dataset
from datasets.schemas.field_types import arrow_timestamp, json_texts, timestamps
from datasets.schemas.schema import CompiledSchema
from datasets.tables.layout import PARTITION, VERSION, base_columns, keeps_version
from ingest.queue.formats import ARRAY, LINES, OBJECT, lines_of
from ingest.queue.stream import Entry

# Convert bodies of about this number of bytes at a time: their objects then stay in the processor's cache, and Python
# reuses their memory. Converting a whole commit in one piece takes 50 % longer.
_PIECE_BYTES = 4 * 1024 * 1024
# How much deeper than usual Python may recurse while it parses a body. That takes about 100 KB of C stack.
_EXTRA_RECURSION = 1000

_texts_of_records = msgspec.json.Decoder(list[msgspec.Raw])
_PARSE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Undecodable(Exception):
    """The body of an entry is damaged, or does not match its schema version."""


class Version(NamedTuple):
    """A schema version of a dataset, which says how records become rows."""

    number: int
    schema: CompiledSchema


class Failure(NamedTuple):
    """Entries that cannot be converted, and why."""

    entries: Sequence[Entry]
    reason: str


class Converted(NamedTuple):
    """The rows of all entries that can be converted (None: there are no rows), and the other entries."""

    rows: pa.Table | None
    failures: list[Failure]


def convert(
    dataset: Dataset,
    versions: Mapping[int, Version],
    columns: Mapping[str, pa.DataType],
    entries: Sequence[Entry],
) -> Converted:
    """Convert entries to rows, each record by the schema version under which it was accepted.

    Args:
        dataset: The dataset of the entries.
        versions: The dataset's schema versions by ID.
        columns: The columns that the table has.
        entries: The entries, in the order of the queue.
    """
    groups: dict[tuple[int, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[_version_ids(entry)].append(entry)
    names = (field.name for version in versions.values() for field in version.schema.fields)
    has_number = keeps_version(names, columns)
    tables: list[pa.Table] = []
    failures: list[Failure] = []
    for version_ids, group in groups.items():
        found = [versions[version_id] for version_id in version_ids if version_id in versions]
        if reason := _missing(version_ids, versions) or _changed_column(found, columns):
            failures.append(Failure(group, reason))
            continue
        make = partial(_tables, dataset, found, has_number)
        for piece in _pieces(group):
            tables += _convert_piece(make, piece, failures)
    return Converted(pa.concat_tables(tables, promote_options="default") if tables else None, failures)


def _version_ids(entry: Entry) -> tuple[int, ...]:
    """Return the ID of an entry's schema version. If its records are of two versions, return the later ID first."""
    return (entry.version_id, entry.earlier.version_id) if entry.earlier else (entry.version_id,)


def _missing(version_ids: Sequence[int], versions: Mapping[int, Version]) -> str | None:
    missing = [version_id for version_id in version_ids if version_id not in versions]
    return f"there is no schema version {missing[0]} of this dataset" if missing else None


def _changed_column(versions: Sequence[Version], columns: Mapping[str, pa.DataType]) -> str | None:
    """Return a reason if a column does not have the type that a schema needs: another program changed the table."""
    for name, arrow_type in chain.from_iterable(version.schema.columns().items() for version in versions):
        if columns.get(name, arrow_type) != arrow_type:
            return f"column {name} of the table is {columns[name]}, not {arrow_type}"
    return None


def _pieces(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield the entries in their order, in pieces of about `_PIECE_BYTES`."""
    begin = size = 0
    for end, entry in enumerate(entries, start=1):
        size += len(entry.body)
        if size >= _PIECE_BYTES or end == len(entries):
            yield entries[begin:end]
            begin, size = end, 0


def _convert_piece(
    make: Callable[[Sequence[Entry]], list[pa.Table]], entries: Sequence[Entry], failures: list[Failure]
) -> list[pa.Table]:
    """Return the rows that `make` makes of entries. Add entries that cannot be decoded to `failures`.

    All entries are decoded together. If that fails, each half is tried, and so on, until the bad entries are found.
    """
    try:
        return make(entries)
    except Undecodable as reason:
        if len(entries) == 1:
            failures.append(Failure(entries, str(reason)))
            return []
    middle = len(entries) // 2
    halves = (entries[:middle], entries[middle:])
    return [table for half in halves for table in _convert_piece(make, half, failures)]


def _tables(
    dataset: Dataset, versions: Sequence[Version], has_number: bool, entries: Sequence[Entry]
) -> list[pa.Table]:
    """Return the rows of entries, with a table for each version. Raises Undecodable."""
    parts = [Part(entries, None)] if len(versions) == 1 else _parts(entries)
    return [
        to_table(
            version.schema,
            part.entries,
            project_id=dataset.project_id,
            dataset_id=dataset.pk,
            number=version.number if has_number else None,
            places=part.places,
        )
        for version, part in zip(versions, parts, strict=True)
        if part.entries
    ]


class Part(NamedTuple):
    """Entries reduced to the records of one version, and the index that each record has in its whole entry.

    The array `places` has the indexes for all entries. It is None if no record was left out.
    """

    entries: Sequence[Entry]
    places: np.ndarray | None


def _parts(entries: Sequence[Entry]) -> list[Part]:
    """Split entries into the records of the later and the records of the earlier version. Raises Undecodable."""
    parts: list[tuple[list[Entry], list[np.ndarray]]] = [([], []), ([], [])]
    for entry in entries:
        records = _parse(_texts_of_records, _as_array(entry))
        _check_count(records, entry.count)
        marks = np.frombuffer((entry.earlier.marks if entry.earlier else "").encode(), np.uint8) == ord("1")
        if len(marks) != len(records):
            raise Undecodable(f"the entry names versions for {len(marks)} records, but it has {len(records)}")
        for (of_part, indexes), is_in_part in zip(parts, (~marks, marks), strict=True):
            index = np.flatnonzero(is_in_part)
            if len(index):
                body = b"[%b]" % b",".join([records[at] for at in index])
                of_part.append(dataclasses.replace(entry, body=body, format=ARRAY, count=len(index)))
                indexes.append(index)
    return [Part(of_part, np.concatenate([np.empty(0, np.int64), *indexes])) for of_part, indexes in parts]


def to_table(
    schema: CompiledSchema,
    entries: Sequence[Entry],
    *,
    project_id: int,
    dataset_id: int,
    number: int | None,
    places: np.ndarray | None = None,
) -> pa.Table:
    """Return the rows of entries of one schema version, in their order. Raises Undecodable.

    `id` is the stream ID of the acceptance and the record's index: `<ms>-<seq>-<index>`. The numbers are padded with
    zeros, so that sorting the IDs as texts gives the order of acceptance. `ingested_at` is the time of acceptance. The
    partition is the day of that time, in UTC. All three depend only on the entry, so a repeated drain writes the same
    rows.

    Args:
        schema: The schema version.
        entries: The entries.
        project_id: The project of the dataset.
        dataset_id: The dataset of the entries.
        number: The number of the schema version, None if the table has no column for it.
        places: The index of each record in its entry, None if the entries have all of their records.
    """
    records = _decode(schema, entries)
    total = len(records)
    counts = np.fromiter((entry.count for entry in entries), np.int64, len(entries))
    of_entry = pa.array(np.repeat(np.arange(len(entries)), counts))
    if places is None:
        places = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    accepted = [entry.origin.split("-") for entry in entries]
    prefix = pa.array([row_id_prefix(ms, seq) for ms, seq in accepted], pa.string())
    ingested = pa.array([int(ms) * 1000 for ms, _ in accepted], pa.int64()).cast(arrow_timestamp())
    base: dict[str, Any] = {
        "id": pc.binary_join_element_wise(
            prefix.take(of_entry), pc.utf8_lpad(pa.array(places).cast(pa.string()), 5, "0"), ""
        ),
        "project_id": pa.array(np.full(total, project_id)),
        "dataset_id": pa.array(np.full(total, dataset_id)),
        "timestamp": _column(timestamps, records, "timestamp"),
        "ingested_at": ingested.take(of_entry),
        "context": _column(json_texts, records, "context"),
        "__traceId": pa.array([entry.trace_id for entry in entries], pa.string()).take(of_entry),
    }
    if number is not None:
        base[VERSION] = pa.array(np.full(total, number, np.int32))
    fields = [field for field in base_columns() if field.name in base]
    columns = [base[field.name] for field in fields]
    for at, field in enumerate(schema.fields):
        kind = schema.types[field.name]
        columns.append(_column(kind.column, records, f"f{at}"))
        fields.append(pa.field(field.name, kind.arrow()))
    columns.append(ingested.cast(pa.timestamp("us")).cast(pa.date32()).take(of_entry))
    fields.append(pa.field(PARTITION, pa.date32()))
    return pa.table(columns, schema=pa.schema(fields))


def first_row_id(entry: Entry) -> str:
    """Return the ID of an entry's first row. One commit writes all rows: if the first is stored, all are stored."""
    ms, seq = entry.origin.split("-")
    return f"{row_id_prefix(ms, seq)}{0:05}"


def row_id_prefix(milliseconds: str, sequence: str) -> str:
    """Return the part of a row ID that all rows of an entry have in common. The record's index follows it."""
    return f"{int(milliseconds):013}-{int(sequence):07}-"


def _decode(schema: CompiledSchema, entries: Sequence[Entry]) -> list[Any]:
    """Return the records of entries, in their order. Raises Undecodable."""
    if len(entries) > 1 and all(entry.format == OBJECT and entry.count == 1 for entry in entries):
        records = _parse(schema.queued, b"[%b]" % b",".join([entry.body for entry in entries]))
        _check_count(records, len(entries))
        return records
    records = []
    for entry in entries:
        of_entry = _parse(schema.queued, _as_array(entry))
        _check_count(of_entry, entry.count)
        records += of_entry
    return records


def _as_array(entry: Entry) -> bytes:
    if entry.format == ARRAY:
        return entry.body
    if entry.format == OBJECT:
        return b"[%b]" % entry.body
    if entry.format == LINES:
        return b"[%b]" % b",".join(lines_of(entry.body))
    raise Undecodable(f"unknown format {entry.format!r}")


def _parse(decoder: msgspec.json.Decoder[list[Any]], body: bytes) -> list[Any]:
    # The stack that is in use already counts for the recursion limit. The stack of a worker may be deeper than the
    # stack of the web process was. So allow more: a body that was accepted must not be too deep here.
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + _EXTRA_RECURSION)
    try:
        return decoder.decode(body)
    except _PARSE_ERRORS as failure:
        raise Undecodable(f"the body does not match its schema version: {failure}") from failure
    finally:
        sys.setrecursionlimit(limit)


def _check_count(records: Sequence[Any], count: int) -> None:
    if len(records) != count or not records:
        raise Undecodable(f"the body holds {len(records)} records, not {count}")


def _column(to_array: Callable[[list[Any]], pa.Array], records: Sequence[Any], attribute: str) -> pa.Array:
    try:
        return to_array(list(map(attrgetter(attribute), records)))
    except (msgspec.ValidationError, pa.ArrowInvalid) as failure:
        raise Undecodable(f"a value does not match its schema version: {failure}") from failure
