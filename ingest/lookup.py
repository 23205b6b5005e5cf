"""Where the records of a receipt are now."""

from datetime import UTC, datetime
from typing import Any

from datasets.models import Dataset
from datasets.table import DatasetTable
from ingest import queue
from ingest.errors import ReceiptNotFound
from ingest.models import QuarantinedEntry
from ingest.receipts import Receipt


def look_up(receipt: Receipt) -> dict[str, Any]:
    """`{"status": "queued" | "stored" | "quarantined", ...}`.

    `stored` is only said of what is in the table for good; `queued` may still be said for the moment between the
    commit and the trimming of the queue. Raises ReceiptNotFound where a wiped Redis has taken the entry along.
    """
    answer: dict[str, Any] = {"status": "stored", "dataset_id": receipt.dataset_id}
    answer["accepted_at"] = _time_of(receipt.stream_id)
    if queue.generation() == receipt.generation and queue.holds(receipt.dataset_id, receipt.stream_id):
        return {**answer, "status": "queued"}
    entry = (
        QuarantinedEntry.objects.filter(
            dataset_id=receipt.dataset_id, generation=receipt.generation, origin=receipt.stream_id
        )
        .order_by("-pk")
        .first()
    )
    if entry is not None:
        if entry.state != QuarantinedEntry.State.REPLAYED:
            return {**answer, "status": "quarantined", "reason": entry.reason}
        if queue.holds(receipt.dataset_id, entry.replayed_as):
            return {**answer, "status": "queued"}
    elif queue.generation() != receipt.generation and not _in_table(receipt):
        raise ReceiptNotFound
    return answer


def _in_table(receipt: Receipt) -> bool:
    """Whether the table was written from the queue up to this entry; asked of a generation that is over."""
    dataset = Dataset.objects.get(pk=receipt.dataset_id)
    table = DatasetTable(dataset.project_id, dataset.pk)
    return table.refresh() and table.position(receipt.generation) >= queue.position_of(receipt.stream_id)


def _time_of(stream_id: str) -> str:
    moment = datetime.fromtimestamp(int(stream_id.partition("-")[0]) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
