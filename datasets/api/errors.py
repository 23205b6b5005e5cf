"""The errors of the management API. Exceptions of Django and DRF are converted to these errors."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, RequestDataTooBig, ValidationError
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, JsonResponse
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError
from rest_framework import exceptions as drf

from config.common import errors
from config.common.errors import ApiError, Refused

_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_WRITE_NEEDED = {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="write"'}  # RFC 6750, 3.1
_RETRY = {"Retry-After": "5"}


class MissingToken(ApiError):
    """The request has no usable Authorization header."""

    status, code, error = 401, "missing_personal_access_token", "Missing personal access token"
    headers = _CHALLENGE


class InvalidToken(ApiError):
    """The token is unknown, expired or revoked, or its user is inactive. All cases get the same answer."""

    status, code, error = 401, "invalid_personal_access_token", "Invalid personal access token"
    headers = _CHALLENGE


class ProjectKeyUsed(ApiError):
    """The client sent a project's API key. The management API needs a personal access token."""

    status, code = 403, "project_api_key"
    error = "Use a personal access token, not a project API key"


class InsufficientScope(ApiError):
    """The token may only read."""

    status, code, error = 403, "insufficient_scope", "Insufficient scope"
    headers = _WRITE_NEEDED


class NotAllowed(ApiError):
    """The token's user may not do this."""

    status, code, error = 403, "not_allowed", "Not allowed"


class TooManyFailedTokens(ApiError):
    """This address has sent too many invalid tokens."""

    status, code, error = 429, "too_many_failed_tokens", "Too many failed tokens"

    def __init__(self, seconds: float) -> None:
        super().__init__(headers={"Retry-After": str(max(1, ceil(seconds)))})


class ProjectNotFound(ApiError):
    """The project does not exist, or the token's user may not see it. Both cases get the same answer."""

    status, code, error = 404, "project_not_found", "Project not found"


class DatasetMissing(ApiError):
    """The project has no such dataset, or no default dataset."""

    status, code, error = 404, "dataset_not_found", "Dataset not found"


class ApiKeyNotFound(ApiError):
    """The project has no such API key."""

    status, code, error = 404, "api_key_not_found", "API key not found"


class LengthRequired(ApiError):
    """The body came without a Content-Length."""

    status, code, error = 411, "length_required", "Length required"


class InvalidRequest(ApiError):
    """A value in the body or in the URL's query string is wrong. `errors` lists the problems."""

    status, code, error = 400, "invalid_request", "Invalid request"


class SlugConflict(ApiError):
    """The slug is taken.

    The answer does not say which project has the slug, because not every user may see that project.
    """

    status, code, error = 409, "slug_conflict", "Slug cannot be used"


class IncompatibleSchema(ApiError):
    """The new schema does not fit the columns of the dataset's table."""

    status, code, error = 409, "incompatible_schema", "Incompatible schema"


class PreconditionFailed(ApiError):
    """The object's state does not meet If-Match or If-None-Match. Usually, another request has changed the object."""

    status, code, error = 412, "precondition_failed", "Precondition failed"


class ServiceUnavailable(ApiError):
    """Redis, the database or the storage does not answer, or too many requests are waiting. Nothing was changed."""

    status, code, error = 503, "service_unavailable", "Service unavailable"
    headers = _RETRY


_TAKEN = ("unique", "unique_together")  # the codes of Django's checks of uniqueness
_OUTAGES = (OperationalError, InterfaceError, RedisError, ConnectionInterrupted)


def exception_handler(raised: Exception, context: Mapping[str, Any]) -> JsonResponse:
    """Return the answer to a request whose view has raised an exception."""
    return errors.exception_handler(_as_ours(raised), context)


def _as_ours(raised: Exception) -> Exception:
    """Convert an exception of Django, DRF or a service to one of our errors. Return any other exception unchanged."""
    match raised:
        case drf.ValidationError(detail=detail):
            return InvalidRequest({"errors": _problems(detail)})
        case ValidationError():
            return _refused(raised)
        case IntegrityError():  # another request has just taken the slug
            return SlugConflict()
        case drf.UnsupportedMediaType():
            return errors.UnsupportedMediaType({"expected": "application/json"})
        case drf.MethodNotAllowed():
            return errors.MethodNotAllowed()
        case RequestDataTooBig():
            return errors.BodyTooLarge({"limit": settings.DATA_UPLOAD_MAX_MEMORY_SIZE})
        case Http404() | drf.NotFound():
            return errors.NotFound()
        case Refused():
            return ServiceUnavailable({"detail": str(raised)})
    return ServiceUnavailable() if isinstance(raised, _OUTAGES) else raised


def _refused(raised: ValidationError) -> ApiError:
    """Return the error for the problems that a model or a service has found."""
    is_by_field = hasattr(raised, "error_dict")
    found = [each for of_field in raised.error_dict.values() for each in of_field] if is_by_field else raised.error_list
    if any(each.code in _TAKEN for each in found):
        return SlugConflict()
    return InvalidRequest({"errors": _problems(raised.message_dict if is_by_field else raised.messages)})


def _problems(detail: Any) -> list[dict[str, str]]:
    """Return texts, which may be grouped by field, as a list of problems."""
    if isinstance(detail, Mapping):
        return [_problem(str(name), str(text)) for name, texts in detail.items() for text in texts]
    return [_problem("", str(text)) for text in detail]


def _problem(name: str, text: str) -> dict[str, str]:
    whole = name in ("", "non_field_errors", NON_FIELD_ERRORS)
    return {"detail": text} if whole else {"field": name[:100], "detail": text}
