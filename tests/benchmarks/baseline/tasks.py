"""Store records in the database."""

from typing import Any

from celery import shared_task

from tests.benchmarks.baseline.models import Record


@shared_task(name="baseline.store_records")
def store_records(dataset_id: int, trace_id: str, records: list[dict[str, Any]]) -> None:
    """Store one request's records."""
    Record.objects.bulk_create(
        Record(
            dataset_id=dataset_id,
            trace_id=trace_id,
            timestamp=record.pop("timestamp"),
            context=record.pop("context"),
            data=record,
        )
        for record in records
    )
