"""Which entries a drain still has to store.

An entry above the table's position is new. Any other may be in the table: the drain that stored it died before it
trimmed, or Redis was restored from an older copy. Or it may not: Redis took its id from a clock that was behind. So it
is looked up, by its id and its trace id.
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
from ingest.models import QuarantinedEntry, printable
from ingest.queue import stream
from ingest.queue.stream import Entry
from ingest.storing import rows

logger = logging.getLogger(__name__)


class Sorted(NamedTuple):
    """Entries of a stream, in their order."""

    waiting: list[Entry]  # in neither the table nor the quarantine
    leaving: list[Entry]  # these, and those that need not be stored again
    is_all: bool  # the quarantine has no other entry of this part of the queue, which Redis would have forgotten


def sort(dataset: Dataset, table: DatasetTable, generation: str, position: int, entries: Sequence[Entry]) -> Sorted:
    """Return what is to be stored of the entries at the head of a stream, for a table with this position.

    An entry that has the id of another record gets a new one, behind all others.
    """
    kept = _in_quarantine(dataset, generation, min(position + 1, entries[0].position), entries[-1].position)
    new = bisect_right(entries, position, key=attrgetter("position"))
    doubtful = [*entries[:new], *(entry for entry in entries[new:] if entry.is_replay)]
    traces = _traces(table, kept, entries, doubtful)
    places = {(entry.position, entry.origin) for entry in entries} if kept else set()
    forgotten = {place for place in kept if place[0] > position} - places
    found = Sorted([], [], is_all=not forgotten)
    for entry in entries:
        if entry.stream_id not in traces:
            found.waiting.append(entry)
        elif not _is_one_of(entry, traces):
            logger.warning("dataset %s: the id of entry %s is taken; it gets another", dataset.pk, entry.stream_id)
            stream.renumber(dataset.pk, generation, entry)
            continue
        found.leaving.append(entry)
    return found


def settled(dataset: Dataset, table: DatasetTable, generation: str, entries: Sequence[Entry]) -> int:
    """Return how many records of these entries, none of which is above the table's position, are stored or kept."""
    kept = _in_quarantine(dataset, generation, entries[0].position, entries[-1].position)
    traces = _traces(table, kept, entries, entries)
    return sum(entry.count for entry in entries if entry.stream_id in traces and _is_one_of(entry, traces))


def trace_in_quarantine(entry: Entry) -> str:
    """Return an entry's trace id as the quarantine has it."""
    return printable(entry.trace_id)[:128]


def _is_one_of(entry: Entry, traces: Mapping[str, set[str]]) -> bool:
    return not traces[entry.stream_id].isdisjoint((entry.trace_id, trace_in_quarantine(entry)))


def _in_quarantine(dataset: Dataset, generation: str, least: int, greatest: int) -> dict[tuple[int, str], str]:
    """Return the trace ids of the entries between two positions that were ever kept, by position and origin."""
    kept = QuarantinedEntry.objects.filter(
        dataset=dataset, generation=generation, position__gte=least, position__lte=greatest
    )
    return {(position, origin): trace for position, origin, trace in kept.values_list("position", "origin", "trace_id")}


def _traces(
    table: DatasetTable, kept: Mapping[tuple[int, str], str], entries: Sequence[Entry], doubtful: Sequence[Entry]
) -> dict[str, set[str]]:
    """Return the trace ids of the records that have an entry's id, by its stream id; an id that is free is left out.

    All entries are looked up in the quarantine; the doubtful ones in the table, too.
    """
    stored = lookup.trace_ids(table.delta, map(rows.first_id, doubtful)) if doubtful and table.exists else {}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries if kept else ():
        if (place := (entry.position, entry.origin)) in kept:
            found[entry.stream_id].add(kept[place])
    for entry in doubtful:
        if (row_id := rows.first_id(entry)) in stored:
            found[entry.stream_id] |= stored[row_id]
    return dict(found)
