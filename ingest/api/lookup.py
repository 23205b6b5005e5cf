"""Find where the records of a receipt are now: in the queue, in the table, or in quarantine."""

from datetime import UTC, datetime
from typing import Any

from config.lazy import deltalake
from datasets import tags
from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.api.receipts import Receipt
from ingest.errors import QueueUnavailable, ReceiptNotFound
from ingest.models import QuarantinedEntry
from ingest.queue import generations, stream

_STORAGE_AWAY = "The storage does not answer, and only it knows whether the records are stored. Ask again later."


def look_up(receipt: Receipt) -> dict[str, Any]:
    """Return `{"status": "queued" | "stored" | "quarantined", ...}`.

    If the status is `stored`, the records are in the table, or were there until retention deleted them. Between the
    commit and the trim, the status may still be `queued`.

    Raises:
        ReceiptNotFound: The entry was lost when Redis was wiped.
        QueueUnavailable: Only the storage knows where the records are, and the storage does not answer.
    """
    answer: dict[str, Any] = {"status": "stored", "dataset_id": receipt.dataset_id}
    answer["accepted_at"] = _time_of(receipt.stream_id)
    generation, stream_id = receipt.generation, receipt.stream_id
    tag = tags.of_dataset(receipt.dataset_id)
    while True:
        # Look in the queue first, then in quarantine: an entry enters the quarantine before it leaves the queue.
        if generations.current(tag) == generation and stream.holds(receipt.dataset_id, stream_id):
            return {**answer, "status": "queued"}
        entry = QuarantinedEntry.objects.filter(
            dataset_id=receipt.dataset_id,
            generation=generation,
            position=stream.position_of(stream_id),
            origin=receipt.stream_id,
        ).first()
        if entry is None:
            break
        if entry.state != QuarantinedEntry.State.REPLAYED:
            return {**answer, "status": "quarantined", "reason": entry.reason}
        generation, _, stream_id = entry.replayed_as.partition("-")
    # A drain trims only entries that are stored or in quarantine. So in the present generation, an entry that is not in
    # the queue and not in quarantine is stored. The queue of an earlier generation is gone, so only the table knows.
    if generations.current(tag) != generation and not _in_table(receipt.dataset_id, generation, stream_id):
        raise ReceiptNotFound
    return answer


def _in_table(dataset_id: int, generation: str, stream_id: str) -> bool:
    """Return whether the table has this entry of an earlier generation."""
    dataset = Dataset.objects.get(pk=dataset_id)
    table = DatasetTable.of(dataset)
    try:
        return table.refresh() and table.watermark(generation) >= stream.position_of(stream_id)
    except (deltalake.exceptions.DeltaError, OSError) as failure:
        raise QueueUnavailable({"detail": _STORAGE_AWAY}) from failure


def _time_of(stream_id: str) -> str:
    moment = datetime.fromtimestamp(int(stream_id.partition("-")[0]) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
