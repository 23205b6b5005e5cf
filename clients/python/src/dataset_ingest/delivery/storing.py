"""Wait until accepted records are in the table."""

from __future__ import annotations

from collections.abc import Sequence

from dataset_ingest.delivery import answers
from dataset_ingest.delivery.steps import Pause, Request, Steps, replied
from dataset_ingest.errors import DatasetError

_FIRST_PAUSE = 0.1
_MAX_PAUSE = 2.0


def until_stored(paths: Sequence[str], dataset_id: int | None) -> Steps[None]:
    """Ask for receipts until none of them has records in the queue.

    Raises:
        DatasetError: Records are in quarantine, with the reason. An admin of the service can replay them.
        DatasetError: The service does not know a receipt, or refuses the key.
    """
    pause = _FIRST_PAUSE
    for path in reversed(paths):  # records are stored in order, so the last receipt is the one to wait for
        while True:
            reply = replied((yield Request("GET", path)))
            status = reply.body().get("status") if answers.is_accepted(reply) else None
            if status == "stored":
                break
            if status == "quarantined":
                reason = answers.error(reply, dataset_id).body.get("reason", "")
                raise DatasetError(f"Records are in quarantine: {reason}", code="quarantined", dataset_id=dataset_id)
            if status is None and not answers.is_retried(reply):
                raise answers.error(reply, dataset_id)
            yield Pause(max(pause, answers.retry_after(reply)))
            pause = min(_MAX_PAUSE, pause * 1.5)
