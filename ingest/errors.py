"""Every refusal of the ingest API that is not about keys or datasets (those are in `datasets`)."""

from config.common.errors import ApiError

_RETRY = {"Retry-After": "1"}


class InvalidDatasetId(ApiError):
    status, code, error = 400, "invalid_dataset_id", "Invalid dataset ID"


class InvalidJson(ApiError):
    status, code, error = 400, "invalid_json", "Invalid JSON body"


class EmptyBatch(ApiError):
    status, code, error = 400, "invalid_batch", "Batch body must be a non-empty array"


class InvalidIdempotencyKey(ApiError):
    status, code, error = 400, "invalid_idempotency_key", "Idempotency-Key must be 1 to 255 visible ASCII characters"


class InvalidRecords(ApiError):
    """Records that the schema does not allow. The answer is the first problem, with all in `errors`.

    `record` is the text of the first record that has a problem.
    """

    def __init__(self, problems: list[dict[str, object]], *, truncated: bool, record: bytes) -> None:
        first = {name: value for name, value in problems[0].items() if name not in ("error", "code")}
        super().__init__({**first, "errors": problems, **({"truncated": True} if truncated else {})})
        self.code = str(problems[0]["code"])
        self.error = str(problems[0]["error"])
        self.record = record


class KeyInProgress(ApiError):
    status, code = 409, "idempotency_key_in_progress"
    error, headers = "Request with this Idempotency-Key is in progress", _RETRY


class KeyReused(ApiError):
    status, code = 422, "idempotency_key_reused"
    error, confirmed = "Idempotency-Key was used with a different body", True


class LengthRequired(ApiError):
    status, code, error = 411, "length_required", "Length required"


class BodyTooLarge(ApiError):
    status, code, error = 413, "body_too_large", "Request body too large"


class TooManyRecords(ApiError):
    status, code, error = 413, "too_many_records", "Batch has too many records"


class UnsupportedMediaType(ApiError):
    status, code, error = 415, "unsupported_media_type", "Unsupported media type"


class UnsupportedEncoding(ApiError):
    status, code, error = 415, "unsupported_content_encoding", "Unsupported content encoding"


class QuotaExceeded(ApiError):
    status, code, error, confirmed = 429, "quota_exceeded", "Monthly dataset quota exceeded", True


class TooManyKeys(ApiError):
    status, code, confirmed = 429, "too_many_idempotency_keys", True
    error = "Too many Idempotency-Keys"


class QueueFull(ApiError):
    status, code, error = 503, "queue_full", "Ingest queue is full"
    headers, confirmed = {"Retry-After": "5"}, True


NOTHING_HAPPENED = {"detail": "Nothing was queued or charged."}
OUTCOME_UNKNOWN = {"detail": "The outcome is unknown: send it again with the same Idempotency-Key to be sure."}


class QueueUnavailable(ApiError):
    status, code, error = 503, "queue_unavailable", "Ingest queue unavailable"
    headers, confirmed = _RETRY, True


class ReceiptNotFound(ApiError):
    status, code, error = 404, "receipt_not_found", "Receipt not found"
