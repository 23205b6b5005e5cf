"""Where the records of a receipt are now."""

from datetime import UTC, datetime
from typing import Any

from deltalake.exceptions import DeltaError

from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.api.receipts import Receipt
from ingest.errors import QueueUnavailable, ReceiptNotFound
from ingest.models import QuarantinedEntry
from ingest.queue import generations, stream


def look_up(receipt: Receipt) -> dict[str, Any]:
    """`{"status": "queued" | "stored" | "quarantined", ...}`.

    `stored` is only said of what is in the table for good; `queued` may still be said for the moment between the
    commit and the trimming of the queue. Raises ReceiptNotFound where a wiped Redis has taken the entry along, and
    QueueUnavailable where the storage would have to be asked and does not answer.
    """
    answer: dict[str, Any] = {"status": "stored", "dataset_id": receipt.dataset_id}
    answer["accepted_at"] = _time_of(receipt.stream_id)
    generation, stream_id = receipt.generation, receipt.stream_id
    while True:
        # In this order: an entry that leaves the queue for the quarantine is there first.
        if generations.current() == generation and stream.holds(receipt.dataset_id, stream_id):
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
    if generations.current() != generation and not _in_table(receipt.dataset_id, generation, stream_id):
        raise ReceiptNotFound
    return answer


def _in_table(dataset_id: int, generation: str, stream_id: str) -> bool:
    """Whether the table was written from the queue up to this entry; asked of a generation that is over."""
    dataset = Dataset.objects.get(pk=dataset_id)
    table = DatasetTable.of(dataset)
    try:
        return table.refresh() and table.position(generation) >= stream.position_of(stream_id)
    except (DeltaError, OSError) as failure:
        raise QueueUnavailable from failure


def _time_of(stream_id: str) -> str:
    moment = datetime.fromtimestamp(int(stream_id.partition("-")[0]) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
