"""Quarantine: keep the entries that cannot be stored, replay them, or discard them."""

import logging
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

from django.db import transaction
from django.db.models import Q

from config.common import clock
from config.common.cluster.key_tags import tagged
from datasets import tags
from datasets.models import Dataset
from ingest.models import QuarantinedEntry, printable
from ingest.queue import formats, generations, redis_keys, stream
from ingest.queue.scripts import script
from ingest.queue.stream import Entry

logger = logging.getLogger(__name__)


def put(dataset: Dataset, generation: str, entries: Sequence[Entry], reason: str) -> None:
    """Put entries into quarantine. Entries that are there already stay as they are."""
    what = "1 entry goes" if len(entries) == 1 else f"{len(entries)} entries go"
    logger.error("dataset %s: %s to quarantine: %s", dataset.pk, what, reason)
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
                earlier=entry.earlier.text if entry.earlier else "",
                trace_id=stored_trace_id(entry),
                reason=printable(reason),
                created_at=clock.now(),
            )
            for entry in entries
        ),
        ignore_conflicts=True,  # two drains may find the same entry
    )


def stored_trace_id(entry: Entry) -> str:
    """Return an entry's trace ID as the quarantine stores it."""
    return printable(entry.trace_id)[:128]


TraceIds = dict[tuple[int, str], str]  # by position and origin


def trace_ids(generations: Mapping[int, str], ranges: Mapping[int, tuple[int, int]]) -> dict[int, TraceIds]:
    """Return the trace IDs of all entries ever put into quarantine between two positions, by dataset.

    Args:
        generations: The generation of the queue, by dataset.
        ranges: The lowest and the highest position, by dataset.
    """
    found: dict[int, TraceIds] = {dataset_id: {} for dataset_id in ranges}
    if ranges:
        between = [
            Q(dataset=dataset_id, generation=generations[dataset_id], position__range=ends)
            for dataset_id, ends in ranges.items()
        ]
        kept = QuarantinedEntry.objects.filter(reduce(or_, between)).order_by()
        for dataset_id, position, origin, trace in kept.values_list("dataset_id", "position", "origin", "trace_id"):
            found[dataset_id][position, origin] = trace
    return found


def replay(entry: QuarantinedEntry) -> bool:
    """Put an entry back into its dataset's queue.

    The records keep the IDs of their acceptance. If the entry fails again, it returns to quarantine. If the process
    dies during the replay, call this function again: the entry is queued only once.

    Returns:
        False if nothing was changed: the entry is still in the queue, or it was replayed or discarded before.
    """
    with transaction.atomic():  # an edit of the body waits for the replay
        locked = (
            QuarantinedEntry.objects.select_for_update(no_key=True, of=("self",))
            .select_related("dataset")
            .get(pk=entry.pk)
        )
        changed = _replay(locked)
    entry.refresh_from_db()
    return changed


def _replay(entry: QuarantinedEntry) -> bool:
    if entry.state != QuarantinedEntry.State.HELD:
        return False
    tag = tags.of_dataset(entry.dataset_id)
    generation = generations.begin(tag)
    last_id = stream.last_id_of(entry.position)
    if generation == entry.generation and stream.holds(entry.dataset_id, last_id):
        return False  # the drain that put the entry into quarantine died before its commit
    while (place := _queue_again(entry, generation)) is None:  # Redis was wiped meanwhile
        generation = generations.begin(tag)
    changed = QuarantinedEntry.objects.filter(pk=entry.pk, state=QuarantinedEntry.State.HELD).update(
        state=QuarantinedEntry.State.REPLAYED, replayed_as=place.decode(), replayed_at=clock.now()
    )
    return bool(changed)


def _queue_again(entry: QuarantinedEntry, generation: str) -> bytes | None:
    """Return the entry's new place in the queue, or None if Redis no longer has this generation."""
    dataset_id, project_id = entry.dataset_id, entry.dataset.project_id
    tag = tags.of_dataset(dataset_id)
    place: bytes | None = script("replay")(
        keys=[
            tagged(redis_keys.GENERATION, tag),
            redis_keys.stream(dataset_id),
            redis_keys.accepted(dataset_id),
            redis_keys.queued(dataset_id),
            redis_keys.queued_bytes(dataset_id),
            tagged(redis_keys.TOTAL_BYTES, tag),
            redis_keys.pending(project_id),
            redis_keys.replayed(dataset_id),
            tagged(redis_keys.TURNS, tag),
        ],
        args=[
            entry.pk,
            entry.generation,
            dataset_id,
            formats.packed(bytes(entry.body)),
            entry.format,
            entry.count,
            entry.schema_version_id,
            entry.trace_id,
            entry.origin,
            generation,
            project_id,
            entry.earlier,
        ],
    )
    return place


def discard(entry: QuarantinedEntry) -> bool:
    """Delete an entry's body and its edits forever. Return False if the entry was replayed or discarded before.

    The row stays: the ledger counts its records as quarantined forever.
    """
    changed = QuarantinedEntry.objects.filter(pk=entry.pk, state=QuarantinedEntry.State.HELD).update(
        state=QuarantinedEntry.State.DISCARDED, body=b"", discarded_at=clock.now()
    )
    if changed:
        entry.edits.update(before=b"", after=b"")
    entry.refresh_from_db()
    return bool(changed)
