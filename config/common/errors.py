"""Errors that clients see. Each is a JSON object: `{"error": ..., "code": ..., ...details}`."""

import logging
from collections.abc import Mapping
from typing import Any

from django.http import JsonResponse

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An error that the client sees. Each subclass is one error; the details differ from case to case."""

    status = 400
    code = "bad_request"
    error = "Bad request"
    headers: Mapping[str, str] = {}
    # True if `datasets.contracts.catalog` need not check the revision before this refusal: the refusal was decided
    # under the contract in force, or does not depend on the contract.
    confirmed = False

    def __init__(self, details: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(self.error)
        self.details = dict(details or {})
        self.headers = {**self.headers, **(headers or {})}

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        return {"error": self.error, "code": self.code, **self.details}


class Refused(Exception):
    """An admin's or a command's request cannot be carried out now. The text says why and what to do."""


class NotFound(ApiError):
    """No view has this path."""

    status, code, error = 404, "not_found", "Not found"


class MethodNotAllowed(ApiError):
    """The path exists, but not for this method."""

    status, code, error = 405, "method_not_allowed", "Method not allowed"


class InvalidJson(ApiError):
    """The body is empty, is not JSON, or did not arrive completely."""

    status, code, error = 400, "invalid_json", "Invalid JSON body"


class InvalidIdempotencyKey(ApiError):
    """The header Idempotency-Key has characters or a length that are not allowed."""

    status, code, error = 400, "invalid_idempotency_key", "Idempotency-Key must be 1 to 255 visible ASCII characters"


class BodyTooLarge(ApiError):
    """The body is larger than the limit, or than the backlog could ever hold."""

    status, code, error = 413, "body_too_large", "Request body too large"


class UnsupportedMediaType(ApiError):
    """The Content-Type is not one that the operation accepts."""

    status, code, error = 415, "unsupported_media_type", "Unsupported media type"


class UnsupportedEncoding(ApiError):
    """The Content-Encoding is not one that the operation accepts."""

    status, code, error = 415, "unsupported_content_encoding", "Unsupported content encoding"


class KeyReused(ApiError):
    """An earlier request with the same Idempotency-Key had another body."""

    status, code = 422, "idempotency_key_reused"
    error, confirmed = "Idempotency-Key was used with a different body", True


class InternalError(ApiError):
    """A defect of the service. The details go to the log, and never to the client."""

    status, code, error = 500, "internal_error", "Internal error"


def to_response(error: ApiError) -> JsonResponse:
    """Return Django's response for the error."""
    return json_response(error.body(), status=error.status, headers=dict(error.headers))


def json_response(body: Mapping[str, Any], **kwargs: Any) -> JsonResponse:
    """Return a JSON response without spaces between its parts."""
    return JsonResponse(body, json_dumps_params={"separators": (",", ":")}, **kwargs)


def exception_handler(raised: Exception, context: Mapping[str, Any]) -> JsonResponse:
    """Return the response for an exception of a view: the answer of an ApiError, or a 500 for anything else.

    DRF calls it, by the setting EXCEPTION_HANDLER.
    """
    if isinstance(raised, ApiError):
        return to_response(raised)
    logger.error("unexpected error in %s", context["request"].path, exc_info=raised)
    return to_response(InternalError())
