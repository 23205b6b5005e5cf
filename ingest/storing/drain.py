"""The drain: move entries from a dataset's queue into its table, exactly once.

Each commit takes these steps, in this order:

1. Open the table: read its newest version. A table from a release without table IDs gets one.
2. Plan: read entries from the head of the stream, and leave out those that are stored already. This may change the
   stream: its last ID is raised to the watermark, and an entry whose ID belongs to another record gets a new one.
3. Ensure the table: create it if the dataset has none yet.
4. Convert: turn entries into rows.
5. Quarantine: keep the entries that cannot be converted, each with the reason.
6. Commit: write the rows and the new watermark to the table in one atomic step.
7. Trim: remove the entries from the stream.
8. Recount: if Redis was restored from an older copy, count the records that it has forgotten as accepted.

The watermark is the position of the last entry that drains have handled. The table stores it in the same commit as the
rows. If a drain dies before the commit, nothing was stored. If it dies after the commit, the next drain finds the
entries in the table and trims them. If two drains run at the same time, the table refuses the second commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from config.lazy import pyarrow as pa
from datasets import installation, services
from datasets.models import Dataset, SchemaVersion
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.storage import is_directory
from datasets.tables.storage_check import check_storage, mark_storage
from datasets.tables.table import DatasetTable, cached_table
from ingest.queue import stream, turns
from ingest.queue.stream import Entry
from ingest.storing import already_stored, ledger, quarantine, untidy
from ingest.storing.conversion import Version, convert

logger = logging.getLogger(__name__)

# A drain that has worked for this time lets another dataset have its turn.
_TURN_SECONDS = 5.0


def drain(dataset_id: int) -> int:
    """Store the entries that a dataset's queue holds. Return the number of rows written.

    Entries that arrive meanwhile wait for the next dispatch. If the drain went on immediately, it would make many small
    commits.
    Do nothing if another drain has claimed the dataset.

    Raises:
        TableGone: The dataset had a table, and it is missing.
        ForeignTable: The table belongs to another dataset.
        DeltaError, OSError: The storage failed. The queue keeps the entries; the dataset is due again after a lease.
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
            logger.info(
                "dataset %s: the drain stopped at %s; the next one continues", dataset_id, type(reason).__name__
            )
        turns.settle(dataset)
    return written


class Stored(NamedTuple):
    """What one commit took from a stream."""

    rows: int
    is_full: bool  # the commit took as much as it may, so the stream may hold more


def drain_once(dataset: Dataset) -> Stored | None:
    """Store one commit's worth of entries. Return None if the stream is empty."""
    state = stream.state(dataset.pk)
    if state.generation is None or not state.length:
        return None
    table = _open_table(dataset)
    plan = _plan(dataset, table, state.generation)
    if plan is None:
        return None
    written = 0
    if plan.needs_commit:
        versions = _versions(dataset, plan.to_store)
        _ensure_table(table, state.generation, versions)
        rows, failures = convert(dataset, versions, table.columns(), plan.to_store)
        for failure in failures:
            quarantine.put(dataset, state.generation, failure.entries, failure.reason)
        written = rows.num_rows if rows is not None else 0
        _commit(dataset, table, plan, rows)
    _trim(dataset, plan)
    if state.trimmed != plan.watermark or plan.redis_lost_entries:
        ledger.recount(dataset, state.generation, state.trimmed)
    return Stored(written, plan.is_full)


def _open_table(dataset: Dataset) -> DatasetTable:
    """Return the dataset's table as it is now. It may not exist yet."""
    table = cached_table(dataset)
    exists = table.refresh()
    if dataset.table_id is None or (exists and table.table_id is None):  # made before there were table IDs
        services.adopt_table(dataset, is_there=table.exists)
        if table.exists and dataset.table_id is not None:
            table.set_table_id(dataset.table_id)
    return table


@dataclass(frozen=True, slots=True)
class Plan:
    """The entries that one commit stores and trims, in the order of the queue."""

    generation: str
    watermark: int  # the table's watermark before the commit
    new_watermark: int
    to_store: list[Entry]
    to_trim: list[Entry]  # the entries to store, and those that are stored already
    is_full: bool  # a commit takes no more entries than these
    redis_lost_entries: bool  # quarantine has entries that the stream lost: Redis was restored from an older copy

    @property
    def needs_commit(self) -> bool:
        """Whether there is something to write: rows, or a higher watermark."""
        return bool(self.to_store) or self.new_watermark > self.watermark


def _plan(dataset: Dataset, table: DatasetTable, generation: str) -> Plan | None:
    """Read one commit's worth of entries, and find those that are not stored yet. Return None if there is no entry."""
    watermark = table.watermark(generation) if table.exists else 0
    entries = list(stream.read(dataset.pk, generation))
    if not entries:
        return None
    stream.keep_ahead(dataset.pk, generation, watermark, entries[-1])
    found = already_stored.split(dataset, table, generation, watermark, entries)
    return Plan(
        generation=generation,
        watermark=watermark,
        new_watermark=max(watermark, entries[-1].position),
        to_store=found.to_store,
        to_trim=found.to_trim,
        is_full=stream.is_full(entries),
        redis_lost_entries=found.redis_lost_entries,
    )


def _versions(dataset: Dataset, entries: list[Entry]) -> dict[int, Version]:
    """Return each schema version that the entries were accepted under, by its ID."""
    version_ids = {entry.version_id for entry in entries} | {
        entry.earlier.version_id for entry in entries if entry.earlier
    }
    versions = SchemaVersion.objects.filter(dataset=dataset, pk__in=version_ids)
    return {version.pk: Version(version.number, version.compiled()) for version in versions}


def _ensure_table(table: DatasetTable, generation: str, versions: Mapping[int, Version]) -> None:
    """Create the table if there is none. Raises ConcurrentCommit if another drain has created and filled it."""
    if table.exists:
        return
    check_storage()
    if is_directory():
        mark_storage()
        services.note_marker()
    latest = max(versions.values(), key=lambda version: version.number, default=None)
    table.create(latest.schema.fields if latest else ())
    if table.watermark(generation):
        raise ConcurrentCommit


def _commit(dataset: Dataset, table: DatasetTable, plan: Plan, rows: pa.Table | None) -> None:
    """Write the rows, the new watermark and the number of rows ever written to the table, all in one commit."""
    if not dataset.has_table:  # From our first commit on, a missing table means lost storage, not a new dataset.
        services.note_table(dataset)
    stored = table.stored(plan.generation) + (rows.num_rows if rows is not None else 0)
    table.append(
        rows,
        generation=plan.generation,
        watermark=plan.new_watermark,
        stored=stored,
        renumbered=[(entry.first_id, entry.trace_id) for entry in plan.to_store if entry.renumbered_from],
    )
    untidy.mark(dataset.pk)


def _trim(dataset: Dataset, plan: Plan) -> None:
    """Remove the entries from the stream."""
    before = -1 if plan.redis_lost_entries else plan.watermark  # -1: Redis does not note the new watermark
    stream.trim(dataset.pk, plan.generation, plan.to_trim, before=before, reached=plan.new_watermark)
