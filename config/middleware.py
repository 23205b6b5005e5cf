"""What requests and answers carry: ids, the client's address, and what a page of the admin may load."""

import re
import secrets
from collections.abc import Callable
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse

# In the environment of a request of a person who is logged in; see config.share.
LOGGED_IN = "admin.logged_in"
# In a request's environ once its body was read to the end; see config.wsgi.
BODY_WAS_READ = "ingest.body_was_read"
# In a refused request's environ: the project whose key it carried; see config.lingering.
SENDER = "ingest.sender"

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


# Nothing from elsewhere is loaded, and no form is sent there. unfold's pages are made of inline scripts and of
# Alpine.js, which evaluates the expressions that stand in them.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class ContentSecurityPolicyMiddleware:
    """Tells browsers what a page may load, run and be part of."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
        return response


class KnownPersonMiddleware:
    """Tells `config.share` that a request came from a person who is logged in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # Only if the view has looked: a stranger's request must not cost a query more.
        person = getattr(request, "_cached_user", None)
        if person is not None and person.is_authenticated:
            request.META[LOGGED_IN] = "yes"
        return response


def client_address(request: HttpRequest) -> str | None:
    """The address of who sent a request, as the outermost of our own proxies saw it."""
    own: str = request.META.get("REMOTE_ADDR", "")
    claimed = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    proxies: int = settings.PROXY_COUNT
    for address in ([claimed[-proxies]] if 0 < proxies <= len(claimed) else []) + [own]:
        try:
            return str(ip_address(address.strip()))
        except ValueError:
            continue
    return None
