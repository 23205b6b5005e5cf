"""What requests and answers carry: ids, the client's address, and what a page of the admin may load."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from config.common.requests import LOGGED_IN, request_id


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
    """Tells `config.web.share` that a request came from a person who is logged in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # Only if the view has looked: a stranger's request must not cost a query more.
        person = getattr(request, "_cached_user", None)
        if person is not None and person.is_authenticated:
            request.META[LOGGED_IN] = "yes"
        return response
