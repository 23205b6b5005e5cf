"""What an answer of the service means for the records that were sent."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, TypeGuard

from dataset_ingest.delivery.steps import Answer, NoAnswer
from dataset_ingest.errors import (
    AuthenticationError,
    DatasetError,
    OutcomeUnknownError,
    QuotaExceededError,
    RateLimitedError,
    ServiceUnavailableError,
    ValidationError,
)
from dataset_ingest.receipts import Receipt
from dataset_ingest.schema.problems import Problem

_RETRIED = (408, 409, 425, 429)
# If the service answers with one of these, no earlier attempt with the same key and body was accepted: the service has
# looked for the Idempotency-Key, or it refuses this body each time.
_CERTAIN = (400, 404, 422, 429)
_NOTHING_HAPPENED = "nothing was queued"  # the `detail` of a 503 has this text if the records were not accepted


def is_accepted(reply: Answer | NoAnswer) -> TypeGuard[Answer]:
    """Return whether the service has accepted the records."""
    return isinstance(reply, Answer) and 200 <= reply.status < 300


def receipt(answer: Answer, dataset_id: int | None, count: int) -> Receipt:
    """Return the receipt that a 202 gives."""
    place = answer.headers.get("location")
    repeated = answer.headers.get("idempotent-replayed") == "true"
    return Receipt(dataset_id, count, (place,) if place else (), answer.headers.get("x-request-id"), repeated)


def is_retried(reply: Answer | NoAnswer) -> bool:
    """Return whether another attempt may help."""
    return isinstance(reply, NoAnswer) or reply.status in _RETRIED or reply.status >= 500


def may_be_accepted(reply: Answer | NoAnswer) -> bool:
    """Return whether the service may have accepted the records, although the reply does not confirm it."""
    if isinstance(reply, NoAnswer):
        return reply.was_sent
    if reply.status == 503:
        return _NOTHING_HAPPENED not in str(reply.body().get("detail", "")).lower()
    return reply.status == 409 or reply.status >= 500


def is_certain(reply: Answer | NoAnswer) -> bool:
    """Return whether this reply shows that no earlier attempt with the same Idempotency-Key was accepted."""
    return isinstance(reply, Answer) and reply.status in _CERTAIN


def retry_after(reply: Answer | NoAnswer) -> float:
    """Return after how many seconds the service allows another attempt."""
    said = reply.headers.get("retry-after", "") if isinstance(reply, Answer) else ""
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time()) if said else 0.0
    except ValueError:
        return 0.0


def error(reply: Answer | NoAnswer, dataset_id: int | None, indexes: Sequence[int] = ()) -> DatasetError:
    """Return the error that a reply means."""
    if isinstance(reply, NoAnswer):
        text = f"The service does not answer: {reply.reason}"
        return ServiceUnavailableError(text, dataset_id=dataset_id, indexes=indexes)
    body = reply.body()
    detail = body.get("detail")
    message = str(body.get("error", f"HTTP status {reply.status}"))
    details: dict[str, Any] = {
        "status": reply.status,
        "code": body.get("code"),
        "request_id": reply.headers.get("x-request-id"),
        "dataset_id": dataset_id,
        "indexes": indexes,
        "retry_after": retry_after(reply) or None,
        "body": body,
    }
    if reply.status == 400 and (body.get("errors") or body.get("code") == "invalid_json"):
        return _invalid(message, body, details)
    return _class(reply.status, body)(f"{message}: {detail}" if detail else message, **details)


def _class(status: int, body: dict[str, Any]) -> type[DatasetError]:
    if status in (401, 403):
        return AuthenticationError
    if status == 429:
        return QuotaExceededError if body.get("code") == "quota_exceeded" else RateLimitedError
    return ServiceUnavailableError if status in _RETRIED or status >= 500 else DatasetError


def _invalid(message: str, body: dict[str, Any], details: dict[str, Any]) -> ValidationError:
    found = [Problem.read(each) for each in body.get("errors") or [body]]
    if body.get("code") in ("invalid_query", "invalid_request"):
        first = body["errors"][0]
        message = ": ".join(filter(None, (message, first.get("at") or first.get("field"), first.get("detail"))))
    else:
        message = str(found[0])
    return ValidationError(message, problems=found, truncated=bool(body.get("truncated")), **details)


def unknown(last: DatasetError) -> OutcomeUnknownError:
    """Return the error for records that may have been accepted. `last` is the last failure."""
    text = f"The service may have accepted the records, but has not confirmed it: {last.message}"
    found = OutcomeUnknownError(
        text,
        status=last.status,
        code=last.code,
        request_id=last.request_id,
        dataset_id=last.dataset_id,
        indexes=last.indexes,
        body=last.body,
    )
    found.__cause__ = last
    return found
