"""Errors as a person sees them: HTML pages under the admin's addresses, JSON everywhere else.

An error page must stand when the database and Redis do not, so it asks neither of them who is looking.
"""

import sys

from deltalake.exceptions import DeltaError
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import BadRequest
from django.core.paginator import InvalidPage
from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

from config.common import errors
from config.common.errors import ApiError
from config.common.requests import request_id
from config.web.hashers import PasswordChecksBusy

_RETRY_SECONDS = 5
_UNREADABLE = "The address or the form holds a value that cannot be read. Go back and correct it."
# A number that no column holds, half of a surrogate pair, a page that a list does not have; Django's words for text in
# place of an id.
_NO_VALUE = (DataError, OverflowError, UnicodeEncodeError, InvalidPage)
_NO_ID = "expected a number but got"
# What a page may find missing or busy: the exceptions that tell, and the words for it.
_MISSING: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    (
        (PasswordChecksBusy,),
        "Too many logins at once",
        "Other passwords are being checked just now, and yours was not. Wait a few seconds, then log in again.",
    ),
    (
        (RedisError, ConnectionInterrupted),
        "Redis does not answer",
        "This page needs it, and no record is accepted without it. Start Redis, then reload this page.",
    ),
    (
        (OperationalError, InterfaceError),
        "The database does not answer",
        "This page needs it. Start the database, then reload this page.",
    ),
    (
        (DeltaError,),
        "The storage does not answer",
        "This page reads a table from it. Make the storage reachable, then reload this page.",
    ),
)


def error_page(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    """Return an HTML page that says what is wrong and what to do next."""
    bare = HttpRequest()  # without a session: its user would be looked up in the database
    bare.user = AnonymousUser()
    bare.META = {"SCRIPT_NAME": "", **request.META}
    bare.path = bare.path_info = request.path
    frame = {**admin.site.each_context(bare), "title": title, "text": text, "request_id": request_id(request)}
    return HttpResponse(render_to_string("admin/error.html", {**frame, "request": bare}), status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400."""
    if not _is_for_people(request):
        return errors.to_response(ApiError())
    said = str(exception) if isinstance(exception, BadRequest) else ""
    return error_page(request, 400, "This request cannot be read", said or _UNREADABLE)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    text = "Your account may not open this page or do this. A superuser can give you the right."
    return error_page(request, 403, "Not allowed", text)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW."""
    text = "This form is out of date, or it was not sent from this site. Go back, reload the page, and send it again."
    return error_page(request, 403, "Nothing was done", text)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    if not _is_for_people(request):
        return errors.to_response(errors.NotFound())
    text = "There is nothing at this address, or it belongs to a project that you do not see."
    return error_page(request, 404, "Not found", text)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: a value that no column holds, a server that is away, or a defect of ours."""
    if not _is_for_people(request):
        return errors.to_response(errors.InternalError())
    failure = sys.exc_info()[1]
    if isinstance(failure, _NO_VALUE) or (isinstance(failure, ValueError) and _NO_ID in str(failure)):
        return error_page(request, 400, "This request cannot be read", _UNREADABLE)
    for kinds, title, text in _MISSING:
        if isinstance(failure, kinds):
            page = error_page(request, 503, title, text)
            page.headers["Retry-After"] = str(_RETRY_SECONDS)
            return page
    text = f"This is a defect of the service. The log has the details, under the request id {request_id(request)}."
    return error_page(request, 500, "This page failed", text)


def _is_for_people(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/") and "/admin/" in settings.SITE_PATHS
