"""What could not be stored: replayed, or discarded."""

from django.db import transaction

from config.common import clock
from ingest.models import QuarantinedEntry
from ingest.queue import formats, generations, redis_keys, stream
from ingest.queue.scripts import script


def replay(entry: QuarantinedEntry) -> bool:
    """Put an entry back into its dataset's queue; False if that was done before, or if it has not left the queue yet.

    Its records keep the ids of their acceptance. If the reason stands, the entry will be in quarantine again.
    Dying halfway does no harm: called again, it finishes, and the entry is not queued twice.
    """
    with transaction.atomic():  # an edit of the body waits until the replay is noted
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
    generation = generations.begin()
    last_id = stream.last_id_of(entry.position)
    if generation == entry.generation and stream.holds(entry.dataset_id, last_id):
        return False  # the drain that found it died before its commit
    while (place := _queue_again(entry, generation)) is None:  # Redis was wiped meanwhile
        generation = generations.begin()
    changed = QuarantinedEntry.objects.filter(pk=entry.pk, state=QuarantinedEntry.State.HELD).update(
        state=QuarantinedEntry.State.REPLAYED, replayed_as=place.decode(), replayed_at=clock.now()
    )
    return bool(changed)


def _queue_again(entry: QuarantinedEntry, generation: str) -> bytes | None:
    """Return the place of the entry's replay; None if Redis has no longer this generation."""
    dataset_id, project_id = entry.dataset_id, entry.dataset.project_id
    place: bytes | None = script("replay")(
        keys=[
            redis_keys.GENERATION,
            redis_keys.stream(dataset_id),
            redis_keys.accepted(dataset_id),
            redis_keys.queued(dataset_id),
            redis_keys.queued_bytes(dataset_id),
            redis_keys.TOTAL_BYTES,
            redis_keys.pending(project_id),
            redis_keys.replayed(dataset_id),
            redis_keys.TURNS,
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
        ],
    )
    return place


def discard(entry: QuarantinedEntry) -> bool:
    """Give an entry up for good; False if it was replayed or discarded before.

    The row stays, without the body and its history: in the ledger its records are quarantined for ever.
    """
    changed = QuarantinedEntry.objects.filter(pk=entry.pk, state=QuarantinedEntry.State.HELD).update(
        state=QuarantinedEntry.State.DISCARDED, body=b"", discarded_at=clock.now()
    )
    if changed:
        entry.edits.update(before=b"", after=b"")
    entry.refresh_from_db()
    return bool(changed)
