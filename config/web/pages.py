"""Error pages: HTML for URLs of the admin, JSON for all others.

An error page must work while the database and Redis are down, so it does not look up the user.
"""

import sys

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import BadRequest, RequestDataTooBig
from django.core.paginator import InvalidPage
from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

from config.common import errors
from config.common.errors import ApiError
from config.common.requests import request_id
from config.lazy import deltalake
from config.web.hashers import PasswordChecksBusy

_RETRY_SECONDS = 5
_INVALID = "The address or the form contains an invalid value. Go back and correct it."
# Raised for a number too large for its column, half of a surrogate pair, or a page number that a list does not have.
_INVALID_VALUE = (DataError, OverflowError, UnicodeEncodeError, InvalidPage)
# Part of Django's message for text where an ID is expected.
_INVALID_ID = "expected a number but got"


def _unavailable() -> tuple[tuple[tuple[type[Exception], ...], str, str], ...]:
    """Return the causes of a 503 page. Each has its exceptions, and the title and the text of the page."""
    return (
        (
            (PasswordChecksBusy,),
            "Too many logins at the same time",
            "The service is checking other passwords and did not check yours. Wait a few seconds, then log in again.",
        ),
        (
            (RedisError, ConnectionInterrupted),
            "Redis does not answer",
            "This page and every API request need Redis. Start Redis, then reload this page.",
        ),
        (
            (OperationalError, InterfaceError),
            "The database does not answer",
            "This page needs the database. Start it, then reload this page.",
        ),
        (
            (deltalake.exceptions.DeltaError,),
            "The storage does not answer",
            "This page reads a table from the storage. Make the storage reachable, then reload this page.",
        ),
    )


def error_page(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    """Return an HTML page that says what is wrong and what to do next."""
    bare = HttpRequest()  # no session: Django would look up its user in the database
    bare.user = AnonymousUser()
    bare.META = {"SCRIPT_NAME": "", **request.META}
    bare.path = bare.path_info = request.path
    frame = {**admin.site.each_context(bare), "title": title, "text": text, "request_id": request_id(request)}
    return HttpResponse(render_to_string("admin/error.html", {**frame, "request": bare}), status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the answer to an invalid request. This is Django's handler400."""
    if not _is_of_admin(request):
        return errors.to_response(ApiError())
    if isinstance(exception, RequestDataTooBig):
        megabytes = (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0) / 1024**2
        text = f"The texts of the form have more than {megabytes:g} MB. Go back and shorten the longest text."
        return error_page(request, 400, "The form is too large", text)
    message = str(exception) if isinstance(exception, BadRequest) else ""
    return error_page(request, 400, "Invalid request", message or _INVALID)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the page for a user who lacks a permission. This is Django's handler403."""
    text = "You do not have permission to open this page or to do this. Ask a superuser for it."
    return error_page(request, 403, "Not allowed", text)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return the page for a form without a valid CSRF token. This is Django's CSRF_FAILURE_VIEW."""
    text = "The form was out of date, or it came from another site. Go back, reload the page and send the form again."
    return error_page(request, 403, "Nothing was changed", text)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the answer for a path that no view has. This is Django's handler404."""
    if not _is_of_admin(request):
        return errors.to_response(errors.NotFound())
    text = "This page does not exist, or it belongs to a project that you cannot see."
    return error_page(request, 404, "Not found", text)


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the answer to an exception: an invalid value, a service that is down, or a bug. Django's handler500."""
    if not _is_of_admin(request):
        return errors.to_response(errors.InternalError())
    failure = sys.exc_info()[1]
    if isinstance(failure, _INVALID_VALUE) or (isinstance(failure, ValueError) and _INVALID_ID in str(failure)):
        return error_page(request, 400, "Invalid request", _INVALID)
    for kinds, title, text in _unavailable():
        if isinstance(failure, kinds):
            page = error_page(request, 503, title, text)
            page.headers["Retry-After"] = str(_RETRY_SECONDS)
            return page
    text = f"This is a bug in the service. Find the details in the log, under the request ID {request_id(request)}."
    return error_page(request, 500, "This page failed", text)


def _is_of_admin(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/") and "/admin/" in settings.SITE_PATHS
