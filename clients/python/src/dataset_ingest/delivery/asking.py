"""Ask the service, and wait until accepted records are in the table."""

from __future__ import annotations

from collections.abc import Sequence

from dataset_ingest.delivery import answers
from dataset_ingest.delivery.steps import Answer, Pause, Request, Steps, replied
from dataset_ingest.errors import DatasetError

_FIRST_PAUSE = 0.1
_MAX_PAUSE = 2.0


def ask(path: str, dataset_id: int | None) -> Steps[Answer]:
    """Return the answer to a GET. If the service does not answer, wait. If it refuses, raise DatasetError."""
    pause = _FIRST_PAUSE
    while True:
        reply = replied((yield Request("GET", path)))
        if answers.is_accepted(reply):
            return reply
        if not answers.is_retried(reply):
            raise answers.error(reply, dataset_id)
        yield Pause(max(pause, answers.retry_after(reply)))
        pause = min(_MAX_PAUSE, pause * 1.5)


def until_stored(locations: Sequence[str], dataset_id: int | None) -> Steps[None]:
    """Ask for receipts until the records of all receipts are stored.

    Raises:
        DatasetError: Records are in quarantine, or the service does not know a receipt, or it refuses the key.
    """
    pause = _FIRST_PAUSE
    for location in reversed(locations):  # records are stored in order, so the wait for the last receipt is the longest
        while True:
            answer = yield from ask(location, dataset_id)
            said = answer.body()
            if said.get("status") == "stored":
                break
            if said.get("status") == "quarantined":
                text = f"Records are in quarantine: {said.get('reason')}. An admin of the service can replay them."
                raise DatasetError(text, code="quarantined", dataset_id=dataset_id, body=said)
            yield Pause(pause)
            pause = min(_MAX_PAUSE, pause * 1.5)
