"""Find out whether a chunk was accepted, if Redis has forgotten its Idempotency-Key.

An import that was killed may have sent one more chunk than its progress file says. All records of a chunk have one
trace ID, which no other chunk has.
"""

from datetime import datetime, timedelta

from django.conf import settings

from config.common import clock
from config.common.errors import Refused
from datasets.models import Dataset
from datasets.tables import records
from datasets.tables.records import Selection
from ingest.models import QuarantinedEntry
from ingest.queue import stream

# How far the clocks of this machine and of Redis may differ.
_CLOCKS_DIFFER = timedelta(days=1)


def is_in_dataset(dataset: Dataset, trace_id: str, began: datetime) -> bool:
    """Return whether records with this trace ID were accepted since an import began.

    Raises Refused if that cannot be known now.
    """
    days: int = settings.RETENTION_DAYS
    if days and began - _CLOCKS_DIFFER < clock.now() - timedelta(days=days):
        raise Refused(
            f"The import began more than {days} days ago, and RETENTION_DAYS has deleted records since. So this "
            f"command cannot tell whether the chunk {trace_id} was accepted. Import the rest of the rows as a new file."
        )
    # Look at the queue first: a drain removes an entry from the queue only when it is in the table or in quarantine.
    if stream.state(dataset.pk).length:
        raise Refused(
            "The Idempotency-Keys of the last run may be forgotten, and records are still queued. Run the same command "
            f"again when `manage.py ledger --dataset {dataset.pk}` shows no queued records."
        )
    entries = QuarantinedEntry.objects.filter(dataset=dataset, trace_id=trace_id)
    return entries.exists() or records.count(dataset, Selection(since=began - _CLOCKS_DIFFER, trace_id=trace_id)) > 0
