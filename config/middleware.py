"""Request ids: the client's own, if it is safe to repeat, else a new one."""

import re
import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

# In a request's environ once its body was read to the end; see config.wsgi.
BODY_WAS_READ = "ingest.body_was_read"

# Visible ASCII only: what goes out in a header and into a column must not carry line breaks or controls.
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}").fullmatch


def request_id(request: HttpRequest) -> str:
    """The id under which this request is answered, logged and stored (`__traceId`)."""
    known: str | None = getattr(request, "request_id", None)
    if known is None:
        offered = request.META.get("HTTP_X_REQUEST_ID", "")
        known = offered if _ACCEPTABLE(offered) else secrets.token_hex(16)
        request.request_id = known  # type: ignore[attr-defined]
    return known


class RequestIdMiddleware:
    """Answers every request, errors included, with its `X-Request-Id`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id(request)
        return response
