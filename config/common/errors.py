"""What goes wrong, in one shape: `{"error": ..., "code": ..., ...details}`."""

import logging
from collections.abc import Mapping
from typing import Any

from django.http import JsonResponse

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """A refusal that a client is told of. Subclasses name the error once; details vary by case."""

    status = 400
    code = "bad_request"
    error = "Bad request"
    headers: Mapping[str, str] = {}
    # True where the refusal was decided under the contract in force, so that no fresher look is needed.
    confirmed = False

    def __init__(self, details: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(self.error)
        self.details = dict(details or {})
        self.headers = {**self.headers, **(headers or {})}

    def body(self) -> dict[str, Any]:
        """The answer's JSON body."""
        return {"error": self.error, "code": self.code, **self.details}


class Refused(Exception):
    """What somebody asked for, in the admin or by a command, cannot be done now. The text says why and what to do."""


class NotFound(ApiError):
    """No such address."""

    status, code, error = 404, "not_found", "Not found"


class MethodNotAllowed(ApiError):
    """The address exists, for other methods."""

    status, code, error = 405, "method_not_allowed", "Method not allowed"


class InternalError(ApiError):
    """A defect of ours; the log has the details, the client gets none."""

    status, code, error = 500, "internal_error", "Internal error"


def to_response(error: ApiError) -> JsonResponse:
    """The error as Django sends it."""
    return json_response(error.body(), status=error.status, headers=dict(error.headers))


def json_response(body: Mapping[str, Any], **kwargs: Any) -> JsonResponse:
    """A JSON answer, written as compactly as all of them."""
    return JsonResponse(body, json_dumps_params={"separators": (",", ":")}, **kwargs)


def exception_handler(raised: Exception, context: Mapping[str, Any]) -> JsonResponse:
    """DRF's EXCEPTION_HANDLER: every refusal of a view in the one shape, the unforeseen as a 500."""
    if isinstance(raised, ApiError):
        return to_response(raised)
    logger.error("unforeseen error in %s", context["request"].path, exc_info=raised)
    return to_response(InternalError())
