"""Errors of the ingest API only.

Errors about API keys and datasets are in `datasets.contracts`. Errors that the management API also uses are in
`config.common.errors`.
"""

from config.common.errors import ApiError

_RETRY = {"Retry-After": "1"}


class EmptyBatch(ApiError):
    """The body of a batch is an empty array, or is not an array."""

    status, code, error = 400, "invalid_batch", "Batch body must be a non-empty array"


class InvalidRecords(ApiError):
    """Some records do not match the schema. The answer describes the first problem, and `errors` lists the problems.

    Args:
        problems: At least one problem, in the contract's order.
        truncated: Whether the records have more problems than `problems` lists.
        record: The text of the first record with a problem.
    """

    def __init__(self, problems: list[dict[str, object]], *, truncated: bool, record: bytes) -> None:
        first = {name: value for name, value in problems[0].items() if name not in ("error", "code")}
        super().__init__({**first, "errors": problems, **({"truncated": True} if truncated else {})})
        self.code = str(problems[0]["code"])
        self.error = str(problems[0]["error"])
        self.record = record


class KeyInProgress(ApiError):
    """An earlier request with the same Idempotency-Key has not been answered yet."""

    status, code, confirmed = 409, "idempotency_key_in_progress", True
    error, headers = "Request with this Idempotency-Key is in progress", _RETRY


class BodyTooSlow(ApiError):
    """The client sent no part of the body for BODY_SILENCE_SECONDS."""

    status, code, error = 408, "body_too_slow", "Request body too slow"
    headers = _RETRY


class TooManyRecords(ApiError):
    """The batch has more records than MAX_BATCH_RECORDS, or than its browser key may send in a minute."""

    status, code, error = 413, "too_many_records", "Batch has too many records"


class QuotaExceeded(ApiError):
    """The records do not fit into the monthly quota of the project's owner."""

    status, code, error, confirmed = 429, "quota_exceeded", "Monthly dataset quota exceeded", True


class RateLimited(ApiError):
    """The records do not fit into the rate limit of the browser key."""

    status, code, error, confirmed = 429, "rate_limited", "Rate limit of this API key exceeded", True


class TooManyKeys(ApiError):
    """The service already remembers as many Idempotency-Keys of the project as IDEMPOTENCY_KEYS_PER_PROJECT allows."""

    status, code, confirmed = 429, "too_many_idempotency_keys", True
    error = "Too many Idempotency-Keys"


class QueueFull(ApiError):
    """The backlog has reached a limit, or Redis has no memory left for more entries."""

    status, code, error = 503, "queue_full", "Ingest queue is full"
    headers, confirmed = {"Retry-After": "5"}, True


NOTHING_HAPPENED = {"detail": "Nothing was queued or charged."}
OUTCOME_UNKNOWN = {"detail": "The outcome is unknown. Send the request again with the same Idempotency-Key to be sure."}


class QueueUnavailable(ApiError):
    """The request cannot be served now.

    Redis, the database or the storage does not answer, or Redis holds the data of another installation or release, or
    this process is overloaded.
    """

    status, code, error = 503, "queue_unavailable", "Ingest queue unavailable"
    headers, confirmed = _RETRY, True


class QueueOutOfReach(QueueUnavailable):
    """Redis or its replicas do not answer, or too many requests wait for Redis. Redis does not count this refusal."""


class ReceiptNotFound(ApiError):
    """The receipt was not issued for this dataset, or its entry was lost with a wiped Redis."""

    status, code, error = 404, "receipt_not_found", "Receipt not found"
