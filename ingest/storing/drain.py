"""The drain: move entries from the queues of datasets into their tables, exactly once.

A drain takes one dataset, or many small ones. It makes one pass after the other. A pass (`_drain_pass`) makes one
commit for each dataset, and takes these steps in this order:

1. `stream.states`: read the state and the first entry of each stream.
2. `_look`: open the newest version of the table, and read the entries for one commit. A table from a release without
   table IDs gets one. If the stream's next ID could be at or below the watermark, `stream.keep_ahead` raises the
   stream's last ID.
3. `stream.require_replicas`: check that enough replicas have the entries (REDIS_WAIT_REPLICAS).
4. `_kept` and `_versions`: read from the database which entries are in quarantine, and the schema versions.
5. `_plan`: leave out the entries that are stored already. If the ID of an entry belongs to another record, the entry
   gets a new ID in the stream.
6. `_store`: make the commit, in four steps:
   1. `_ensure_table`: create the table if the dataset has none yet.
   2. `convert`: turn entries into rows.
   3. `quarantine.put`: keep the entries that cannot be converted, each with the reason.
   4. `_commit`: write the rows and the new watermark to the table in one atomic step.
7. `_trim`: remove the entries from the streams.
8. `ledger.recount`: if Redis was restored from an older copy, add the records that it has forgotten to its count of
   accepted records.

Steps 2, 5, 6 and 8 run for each dataset on its own. If one of these steps fails for a dataset, the others are drained
anyway. In the other steps, all datasets share the SQL queries and the round trips to Redis.

The watermark is the position of the last entry that drains have handled. The table stores it in the same commit as the
rows. If a drain dies before the commit, nothing was stored. If it dies after the commit, the next drain finds the
entries in the table and trims them. If two drains run at the same time, the table refuses the second commit.

If several drains of a dataset in a row have died, a pass takes fewer entries: see `ingest.storing.isolation`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from config.common.redis import TooFewReplicas
from config.lazy import pyarrow as pa
from datasets import installation, services, tags
from datasets.models import Dataset, SchemaVersion
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.storage import is_directory
from datasets.tables.storage_check import check_storage, mark_storage
from datasets.tables.table import DatasetTable, cached_table
from ingest.queue import stream, turns
from ingest.queue.stream import Entry
from ingest.storing import already_stored, isolation, ledger, quarantine, untidy
from ingest.storing.conversion import Failure, Version, convert
from ingest.storing.failures import Failures

# After this time, a drain makes no further commit, so that other datasets have their turn.
_TURN_SECONDS = 5.0
# After this time, a pass over many datasets leaves the other datasets to the next drain.
_PASS_SECONDS = 1.0


def drain(*dataset_ids: int) -> int:
    """Store the entries that the queues of datasets hold. Return the number of rows written.

    Entries that arrive meanwhile wait for the next dispatch. If the drain continued immediately, it would make many
    small commits. Leave out datasets that another drain has locked.

    Raises:
        TableGone: A dataset had a table, and it is missing.
        ForeignTable: A table belongs to another dataset.
        DeltaError, OSError: The storage failed. The queue keeps the entries; the dataset is due again after a lease.
    """
    installation.check(tags.by_tag(dataset_ids))
    failures = Failures()
    suspects = isolation.suspects(dataset_ids)
    written = _drain_group([each for each in dataset_ids if each not in suspects], failures)
    for each in suspects:  # one at a time: if the process dies, it is clear which entries it was storing
        written += _drain_group([each], failures, are_suspects=True)
    failures.raise_first()
    return written


def _drain_group(dataset_ids: Sequence[int], failures: Failures, *, are_suspects: bool = False) -> int:
    """Lock datasets and drain them. Return the number of rows written."""
    with turns.locked(dataset_ids) as locks:
        datasets = Dataset.objects.in_bulk(locks)
        try:
            if are_suspects:
                written = sum(_drain_suspect(each, locks[each.pk], failures) for each in datasets.values())
            else:
                written = _drain_locked(datasets, locks, failures)
        except BaseException:
            # If only one dataset caused the error, the others need not wait for their leases.
            if failures.failed:
                _settle(datasets, failures)
            raise
        _settle(datasets, failures)
    return written


def _drain_locked(datasets: Mapping[int, Dataset], locks: Mapping[int, turns.Lock], failures: Failures) -> int:
    """Drain datasets. A dataset with a long backlog gets several commits. Return the number of rows written."""
    written, began, left = 0, time.monotonic(), list(datasets.values())
    while left:
        stored = _drain_pass(left, failures)
        written += sum(each.rows for each in stored.values())
        if time.monotonic() - began > _TURN_SECONDS:
            break
        full = [dataset for dataset in left if dataset.pk in stored and stored[dataset.pk].is_full]
        left = [dataset for dataset in full if locks[dataset.pk].renew()]
    return written


def _drain_suspect(dataset: Dataset, lock: turns.Lock, failures: Failures) -> int:
    """Make trials with the entries under suspicion (see `ingest.storing.isolation`). Return the number of rows."""
    written, began = 0, time.monotonic()
    while (state := stream.state(dataset.pk)).first:
        with isolation.trial(dataset.pk, state) as trial:
            stored = _drain_pass([dataset], failures, trial).get(dataset.pk)
            if stored is None:
                break
            trial.succeed(stored.entries)
        written += stored.rows
        if time.monotonic() - began > _TURN_SECONDS or not lock.renew():
            break
        if trial.left <= 0:
            written += _drain_locked({dataset.pk: dataset}, {dataset.pk: lock}, failures)
            break
    else:
        isolation.forget(dataset.pk)
    return written


def _settle(datasets: Mapping[int, Dataset], failures: Failures) -> None:
    turns.settle(dataset for pk, dataset in datasets.items() if pk not in failures.failed)


class Stored(NamedTuple):
    """The result of one commit."""

    rows: int
    entries: int  # stored, in quarantine, or in the table before
    is_full: bool  # the commit took as much as it may, so the stream may hold more


def drain_once(dataset: Dataset) -> Stored | None:
    """Make one commit. Return None if the stream is empty. Raise ConcurrentCommit if another writer was faster."""
    failures = Failures()
    stored = _drain_pass([dataset], failures)
    failures.raise_first(also_stopped=True)
    return stored.get(dataset.pk)


def _drain_pass(
    datasets: Sequence[Dataset], failures: Failures, trial: isolation.Trial | None = None
) -> dict[int, Stored]:
    """Take the steps of a pass. Return what was stored, by dataset. A trial says how many entries the pass takes."""
    began = time.monotonic()
    parts: list[Part] = []
    committed: list[tuple[Part, Plan, int]] = []
    states = stream.states([dataset.pk for dataset in datasets])
    for dataset in datasets:
        with failures.of(dataset):
            parts += _look(dataset, states[dataset.pk], trial)
    try:
        stream.require_replicas({part.dataset.pk: part.entries[-1].stream_id for part in parts})
    except TooFewReplicas as reason:
        failures.stop((part.dataset for part in parts), reason)
        return {}
    kept, versions = _kept(parts), _versions(parts)
    for part in parts:
        if committed and time.monotonic() - began > _PASS_SECONDS:
            break
        with failures.of(part.dataset):
            plan = _plan(part, kept[part.dataset.pk])
            rows = _store(part, plan, versions)
            committed.append((part, plan, rows))
    _trim([(part, plan) for part, plan, _ in committed])
    for part, plan, _ in committed:
        if part.trimmed != plan.watermark or plan.redis_lost_entries:
            with failures.of(part.dataset):
                ledger.recount(part.dataset, part.generation, part.trimmed)
    return {part.dataset.pk: Stored(rows, len(part.entries), plan.is_full) for part, plan, rows in committed}


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset's part of a pass: its table, and the first entries of its stream."""

    dataset: Dataset
    table: DatasetTable
    generation: str
    trimmed: int  # the watermark that Redis knew
    watermark: int  # of the table
    entries: list[Entry]
    refuses: bool  # the entries go to quarantine, because they killed the process


def _look(dataset: Dataset, state: stream.State, trial: isolation.Trial | None) -> list[Part]:
    """Open the table and read the entries. Return a list with the dataset's part, or an empty list if there is none."""
    if state.generation is None or not state.length:
        return []
    table = _open_table(dataset)
    watermark = table.watermark(state.generation) if table.exists else 0
    entries = list(islice(stream.read(dataset.pk, state.generation, state), trial.size if trial else None))
    if not entries:
        return []
    stream.keep_ahead(dataset.pk, state.generation, watermark, entries[-1])
    refuses = trial is not None and trial.refuses
    return [Part(dataset, table, state.generation, state.trimmed, watermark, entries, refuses)]


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


def _kept(parts: Sequence[Part]) -> dict[int, quarantine.TraceIds]:
    """Return the entries in quarantine that may also be entries of the parts, by dataset.

    Read them after the watermarks: a drain puts entries into quarantine before it commits. So this finds the entries of
    all commits that the watermarks include.
    """
    if not parts:
        return {}
    ranges = {part.dataset.pk: already_stored.positions(part.watermark, part.entries) for part in parts}
    return quarantine.trace_ids({part.dataset.pk: part.generation for part in parts}, ranges)


def _versions(parts: Sequence[Part]) -> dict[int, dict[int, Version]]:
    """Return each schema version that entries were accepted under, by dataset and ID."""
    found: dict[int, dict[int, Version]] = defaultdict(dict)
    entries = [entry for part in parts for entry in part.entries]
    version_ids = {entry.version_id for entry in entries} | {
        entry.earlier.version_id for entry in entries if entry.earlier
    }
    datasets = [part.dataset.pk for part in parts]
    for version in SchemaVersion.objects.filter(dataset__in=datasets, pk__in=version_ids) if parts else ():
        found[version.dataset_id][version.pk] = Version(version.number, version.compiled())
    return found


def _plan(part: Part, kept: quarantine.TraceIds) -> Plan:
    """Find the entries that are not stored yet. An entry whose ID belongs to another record gets a new ID."""
    last = part.entries[-1].position
    found = already_stored.split(part.dataset, part.table, part.generation, part.watermark, part.entries, kept)
    return Plan(
        watermark=part.watermark,
        new_watermark=max(part.watermark, last),
        to_store=found.to_store,
        to_trim=found.to_trim,
        is_full=stream.is_full(part.entries),
        redis_lost_entries=found.redis_lost_entries,
    )


def _store(part: Part, plan: Plan, all_versions: Mapping[int, Mapping[int, Version]]) -> int:
    """Quarantine the entries that cannot be converted, and commit the rows of the others. Return how many rows."""
    if not plan.needs_commit:
        return 0
    versions = all_versions.get(part.dataset.pk, {})
    _ensure_table(part.table, part.generation, versions)
    if part.refuses:
        rows, failures = None, [Failure(plan.to_store, isolation.REASON)]
    else:
        rows, failures = convert(part.dataset, versions, part.table.columns(), plan.to_store)
    for failure in failures:
        quarantine.put(part.dataset, part.generation, failure.entries, failure.reason)
    _commit(part, plan, rows)
    return rows.num_rows if rows is not None else 0


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


def _commit(part: Part, plan: Plan, rows: pa.Table | None) -> None:
    """Write the rows, the new watermark and the number of rows ever written to the table, all in one commit."""
    if not part.dataset.has_table:  # From our first commit on, a missing table means lost storage, not a new dataset.
        services.note_table(part.dataset)
    stored = part.table.stored(part.generation) + (rows.num_rows if rows is not None else 0)
    part.table.append(
        rows,
        generation=part.generation,
        watermark=plan.new_watermark,
        stored=stored,
        renumbered=[(entry.first_id, entry.trace_id) for entry in plan.to_store if entry.renumbered_from],
    )


def _trim(done: Sequence[tuple[Part, Plan]]) -> None:
    """Remove the entries from the streams, and note the tables that were written to."""
    untidy.mark(*(part.dataset.pk for part, plan in done if plan.needs_commit))
    stream.trim(
        [
            stream.Trim(
                part.dataset.pk,
                part.generation,
                plan.to_trim,
                before=-1 if plan.redis_lost_entries else plan.watermark,  # -1: Redis keeps the watermark that it knows
                reached=plan.new_watermark,
            )
            for part, plan in done
        ]
    )
