"""The drain: from a dataset's stream into its table, exactly once.

The consumer's position lives in the table. A drain takes what the head of the stream holds, commits rows and the new
position together, and then trims these entries. If it dies before the commit, nothing happened. If it dies after it,
the next drain finds entries at or below the position, looks which of them are in the table (`ingest.storing.past`),
and trims those. If two drains run at once, the table refuses the second commit.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from config.common import clock
from datasets import installation, services
from datasets.models import Dataset, SchemaVersion
from datasets.schemas.schema import CompiledSchema
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.storage_check import check_storage
from datasets.tables.table import DatasetTable, warm_table
from ingest.models import QuarantinedEntry, printable
from ingest.queue import stream, turns
from ingest.queue.stream import Entry
from ingest.storing import ledger, past, rows, untidy

logger = logging.getLogger(__name__)

# A drain that has worked for so long lets the next dataset have its turn.
_TURN_SECONDS = 5.0
# Bodies of about so many bytes are made columns at a time: the objects between are then still in the processor's cache,
# and their memory is used again. A whole commit at once takes half as long again.
_PIECE_BYTES = 4 * 1024 * 1024


def drain(dataset_id: int) -> int:
    """Store what a dataset's stream holds; the number of rows written.

    What comes meanwhile is left to the next dispatch: as many commits as a worker can make would store little each.
    Returns early, without harm, where another drain is at work. Raises what the storage raises, TableGone where
    it is not the one that tables were made in, and ForeignTable if the table is another dataset's: the queue holds, and
    the dataset is due again after a lease.
    """
    installation.check()
    written = 0
    with turns.claim(dataset_id) as lock:
        if lock is None:
            return 0
        dataset = Dataset.objects.get(pk=dataset_id)
        began = time.monotonic()
        try:
            while lock.renew():
                stored = drain_once(dataset)
                if stored is None:
                    break
                written += stored.rows
                if not stored.is_full or time.monotonic() - began > _TURN_SECONDS:
                    break
        except (ConcurrentCommit, stream.AnotherGeneration) as reason:
            logger.info("drain of dataset %s starts again: %s", dataset_id, type(reason).__name__)
        turns.settle(dataset)
    return written


class Stored(NamedTuple):
    """What a commit took from a stream."""

    rows: int
    is_full: bool  # as much as a commit takes: the stream held more, perhaps


def drain_once(dataset: Dataset) -> Stored | None:
    """Store one commit's worth; return None if the stream is empty."""
    state = stream.state(dataset.pk)
    generation = state.generation
    if generation is None or not state.length:
        return None
    table = warm_table(dataset)
    existed = table.refresh()
    if dataset.table_id is None or (existed and table.table_id is None):
        _adopt(dataset, table)
    position = table.position(generation) if existed else 0
    entries = list(stream.read(dataset.pk, generation))
    if not entries:
        return None
    stream.keep_ahead(dataset.pk, generation, position, entries[-1])
    waiting, leaving, is_all = past.sort(dataset, table, generation, position, entries)
    reached = max(position, entries[-1].position)
    written = 0
    if waiting or reached > position:
        batch, written = _rows(dataset, table, generation, waiting)
        if not existed and table.position(generation):  # another drain made the table, and wrote to it
            raise ConcurrentCommit
        if not dataset.has_table:  # from our first commit on, a missing table means lost storage, not a new dataset
            services.note_table(dataset)
        table.append(batch, generation=generation, position=reached, stored=table.stored(generation) + written)
        untidy.mark(dataset.pk)
    stream.trim(dataset.pk, generation, leaving, before=position if is_all else -1, reached=reached)
    if state.trimmed != position or not is_all:
        ledger.recount(dataset, generation, state.trimmed)
    return Stored(written, is_full=stream.is_full(entries))


def _adopt(dataset: Dataset, table: DatasetTable) -> None:
    """Bind a dataset from before there were table ids, and its table, if there is one, to each other."""
    services.adopt_table(dataset, is_there=table.exists)
    if table.exists and dataset.table_id is not None:
        table.set_table_id(dataset.table_id)


def _rows(
    dataset: Dataset, table: DatasetTable, generation: str, entries: Sequence[Entry]
) -> tuple[pa.Table | None, int]:
    """Return the entries as rows, and their number. Entries that cannot be stored are put in quarantine."""
    by_version: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_version[entry.version_id].append(entry)
    schemas = _schemas(dataset, by_version)
    if not table.exists:
        check_storage()
        latest = max(schemas.values(), key=lambda schema: schema.version_id, default=None)
        table.create(latest.fields if latest else ())
    columns = table.columns()
    batches = []
    for version_id, group in by_version.items():
        schema = schemas.get(version_id)
        misfit = _misfit(schema, columns) if schema else f"there is no schema version {version_id} of this dataset"
        if schema is None or misfit:
            _quarantine(dataset, generation, group, misfit or "")
            continue
        for piece in _pieces(group):
            batches += _tables(dataset, generation, schema, piece)
    if not batches:
        return None, 0
    merged = pa.concat_tables(batches, promote_options="default")
    return merged, merged.num_rows


def _pieces(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The entries in their order, cut where a piece holds `_PIECE_BYTES`."""
    begin = size = 0
    for end, entry in enumerate(entries, start=1):
        size += len(entry.body)
        if size >= _PIECE_BYTES or end == len(entries):
            yield entries[begin:end]
            begin, size = end, 0


def _tables(dataset: Dataset, generation: str, schema: CompiledSchema, group: Sequence[Entry]) -> list[pa.Table]:
    """The rows of entries of one version: all at once, or by halves where one of them cannot be decoded."""
    try:
        return [rows.to_table(schema, group, project_id=dataset.project_id, dataset_id=dataset.pk)]
    except rows.Undecodable as reason:
        if len(group) == 1:
            _quarantine(dataset, generation, group, str(reason))
            return []
        middle = len(group) // 2
        halves = (group[:middle], group[middle:])
        return [table for half in halves for table in _tables(dataset, generation, schema, half)]


def _schemas(dataset: Dataset, version_ids: dict[int, list[Entry]]) -> dict[int, CompiledSchema]:
    versions = SchemaVersion.objects.filter(dataset=dataset, pk__in=version_ids)
    return {version.pk: version.compiled() for version in versions}


def _misfit(schema: CompiledSchema, columns: dict[str, pa.DataType]) -> str | None:
    """Why the table cannot take this version's rows: a column was changed behind our back."""
    for name, arrow_type in schema.columns().items():
        if columns.get(name, arrow_type) != arrow_type:
            return f"column {name} of the table is {columns[name]}, not {arrow_type}"
    return None


def _quarantine(dataset: Dataset, generation: str, entries: Sequence[Entry], reason: str) -> None:
    logger.error("dataset %s: %s entries go to quarantine: %s", dataset.pk, len(entries), reason)
    QuarantinedEntry.objects.bulk_create(
        (
            QuarantinedEntry(
                dataset=dataset,
                generation=generation,
                position=entry.position,
                origin=entry.origin,
                count=entry.count,
                body=entry.body,
                format=printable(entry.format.decode(errors="replace"))[:1],
                schema_version_id=entry.version_id,
                trace_id=past.trace_in_quarantine(entry),
                reason=printable(reason),
                created_at=clock.now(),
            )
            for entry in entries
        ),
        ignore_conflicts=True,  # found by two drains at once
    )
