"""Find the entries of a stream that are stored already: their records are in the table or in quarantine.

An entry above the table's watermark is new, unless it is a replay. Any other entry is looked up, because it may be
stored or not:

- It is stored if the drain that stored it died before the trim, or if Redis was restored from an older copy.
- It is not stored if Redis took its stream ID from a clock that was behind.

An entry is recognized by the ID of its first row together with its trace ID. The ID alone is not enough: a Redis that
was restored from an older copy can give a stream ID a second time.

An entry whose ID belongs to another record gets a new ID, and is stored under the new ID. Redis may later be restored
from a copy in which the entry has another ID: its original ID, or a third one. So the commit also writes the entry's
original ID and trace ID to the table's log. A later drain finds them there, and knows that the entry is stored.

The service cannot distinguish two entries with the same original ID and the same trace ID: the second counts as stored.
Redis gives an ID twice only if it lost the first entry. The trace ID is then the same only if the client sent the same
X-Request-Id twice, or if neither trace ID can be read.
"""

import logging
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from datasets.models import Dataset
from datasets.tables import lookup
from datasets.tables.table import DatasetTable
from ingest.queue import stream
from ingest.queue.stream import Entry
from ingest.storing import quarantine
from ingest.storing.conversion import first_row_id

logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """Entries from the head of a stream, in their order."""

    to_store: list[Entry]
    to_trim: list[Entry]  # the entries to store, and those that are stored already
    redis_lost_entries: bool  # quarantine has entries that the stream lost: Redis was restored from an older copy


def positions(watermark: int, entries: Sequence[Entry]) -> tuple[int, int]:
    """Return the lowest and the highest position of the quarantined entries that `split` needs."""
    return min(watermark + 1, entries[0].position), entries[-1].position


def split(
    dataset: Dataset,
    table: DatasetTable,
    generation: str,
    watermark: int,
    entries: Sequence[Entry],
    kept: quarantine.TraceIds,
) -> Split:
    """Separate the entries that are not stored yet from the entries that are stored.

    An entry whose ID belongs to another record is in neither list: it moves to the end of the stream, with a new ID.

    Args:
        dataset: The dataset of the entries.
        table: The dataset's table.
        generation: The generation of the queue.
        watermark: The watermark of the table.
        entries: The first entries of the stream, in order.
        kept: The trace IDs of quarantined entries. Read them after the watermark.
    """
    new = bisect_right(entries, watermark, key=attrgetter("position"))
    doubtful = [*entries[:new], *(entry for entry in entries[new:] if entry.is_replay)]
    owners = _owners(table, kept, entries, doubtful)
    in_stream = {(entry.position, entry.origin) for entry in entries} if kept else set()
    lost = {place for place in kept if place[0] > watermark} - in_stream
    found = Split([], [], redis_lost_entries=bool(lost))
    for entry in entries:
        if _is_stored(entry, owners, table, generation):
            found.to_trim.append(entry)
        elif entry.stream_id in owners:
            logger.warning("dataset %s: entry %s gets a new ID: another record has its ID", dataset.pk, entry.stream_id)
            stream.renumber(dataset.pk, generation, entry)
        else:
            found.to_store.append(entry)
            found.to_trim.append(entry)
    return found


def count_records(dataset: Dataset, table: DatasetTable, generation: str, entries: Sequence[Entry]) -> int:
    """Return how many records of these entries are stored. All entries must be at or below the table's watermark."""
    ends = entries[0].position, entries[-1].position
    kept = quarantine.trace_ids({dataset.pk: generation}, {dataset.pk: ends})[dataset.pk]
    owners = _owners(table, kept, entries, entries)
    return sum(entry.count for entry in entries if _is_stored(entry, owners, table, generation))


def _is_stored(entry: Entry, owners: Mapping[str, set[str]], table: DatasetTable, generation: str) -> bool:
    """Return whether an entry is stored, under its own ID or under a new one.

    Read the table's log only if the ID belongs to another record, or if the entry was renumbered.
    """
    trace_ids = owners.get(entry.stream_id)
    if trace_ids and not trace_ids.isdisjoint((entry.trace_id, quarantine.stored_trace_id(entry))):
        return True
    if (trace_ids or entry.renumbered_from) and table.exists:
        return table.has_renumbered(generation, entry.first_id, entry.trace_id)
    return False


def _owners(
    table: DatasetTable, kept: Mapping[tuple[int, str], str], entries: Sequence[Entry], doubtful: Sequence[Entry]
) -> dict[str, set[str]]:
    """Return a dict from stream IDs to the trace IDs of the stored records with this ID. Leave out other stream IDs.

    Args:
        table: The dataset's table. Only the doubtful entries are looked up in it.
        kept: The trace IDs of quarantined entries, by position and origin. All entries are looked up in it.
        entries: The entries, in the order of the queue.
        doubtful: The subset of `entries` that may be in the table.
    """
    in_table = lookup.trace_ids(table.delta, map(first_row_id, doubtful)) if doubtful and table.exists else {}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries if kept else ():
        if (place := (entry.position, entry.origin)) in kept:
            found[entry.stream_id].add(kept[place])
    for entry in doubtful:
        if (row_id := first_row_id(entry)) in in_table:
            found[entry.stream_id] |= in_table[row_id]
    return dict(found)
