"""From queue entries to the columns of a table."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets.field_types import FIELD_TYPES
from datasets.schema import CompiledSchema
from datasets.table import BASE_COLUMNS, PARTITION
from ingest.queue import Entry
from ingest.validation import ARRAY, LINES, OBJECT

_TIMESTAMP = pa.timestamp("us", "UTC")


class Undecodable(Exception):
    """An entry that is not what its schema version says."""


def decode(schema: CompiledSchema, entry: Entry) -> list[Any]:
    """The records of one entry. Raises Undecodable."""
    try:
        if entry.format == OBJECT:
            records = schema.stored.decode(b"[%b]" % entry.body)
        elif entry.format == ARRAY:
            records = schema.stored.decode(entry.body)
        elif entry.format == LINES:
            lines = [line for line in entry.body.split(b"\n") if line.strip()]
            records = schema.stored.decode(b"[%b]" % b",".join(lines))
        else:
            raise Undecodable(f"unknown format {entry.format!r}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise Undecodable(f"the body does not match its schema version: {failure}") from failure
    if len(records) != entry.count:
        raise Undecodable(f"the body holds {len(records)} records, not {entry.count}")
    return records


def to_table(
    schema: CompiledSchema,
    entries: Sequence[Entry],
    records: Sequence[Any],
    *,
    project_id: int,
    dataset_id: int,
) -> pa.Table:
    """The rows of entries of one schema version; `records` are theirs, in the same order.

    `id` is `<ms>-<seq>-<index>` of the acceptance, padded to sort; `ingested_at` and the partition are its time. All
    follow from the stream entry, so a drain that is repeated writes the very same rows.
    """
    total = len(records)
    counts = np.fromiter((entry.count for entry in entries), np.int64, len(entries))
    of_entry = pa.array(np.repeat(np.arange(len(entries)), counts))
    index = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    accepted = [entry.origin.split("-") for entry in entries]
    prefix = pa.array([f"{int(ms):013}-{int(seq):07}-" for ms, seq in accepted], pa.string())
    ingested = pa.array([int(ms) * 1000 for ms, _ in accepted], pa.int64()).cast(_TIMESTAMP)
    base: dict[str, Any] = {
        "id": pc.binary_join_element_wise(
            prefix.take(of_entry), pc.utf8_lpad(pa.array(index).cast(pa.string()), 5, "0"), ""
        ),
        "project_id": pa.array(np.full(total, project_id)),
        "dataset_id": pa.array(np.full(total, dataset_id)),
        "timestamp": pa.array([record.timestamp for record in records], _TIMESTAMP),
        "ingested_at": ingested.take(of_entry),
        "context": pa.array([bytes(record.context) for record in records], pa.binary()).cast(pa.string()),
        "__traceId": pa.array([entry.trace_id for entry in entries], pa.string()).take(of_entry),
    }
    columns = [base[field.name] for field in BASE_COLUMNS]
    fields = list(BASE_COLUMNS)
    for number, field in enumerate(schema.fields):
        attribute, column_type = f"f{number}", FIELD_TYPES[field.type].arrow
        columns.append(pa.array([getattr(record, attribute) for record in records], column_type))
        fields.append(pa.field(field.name, column_type))
    columns.append(ingested.cast(pa.timestamp("us")).cast(pa.date32()).take(of_entry))
    fields.append(pa.field(PARTITION, pa.date32()))
    return pa.table(columns, schema=pa.schema(fields))
