"""Middleware of the site: request IDs, the policy for what a page may load, and a note about logged-in users."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from config.common.requests import LOGGED_IN, request_id


class RequestIdMiddleware:
    """Adds `X-Request-Id` to every answer, including errors."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id(request)
        return response


# Pages load nothing from other sites, and send no form to them. unfold's pages use inline scripts and Alpine.js, which
# evaluates expressions in the page.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class ContentSecurityPolicyMiddleware:
    """Tells browsers what a page may load and run, and that no other page may contain it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
        return response


class KnownPersonMiddleware:
    """Tells `config.web.share` the session of a user who is logged in, or has just logged in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # A request with a personal access token has this entry already. Its session was not checked.
        if LOGGED_IN in request.META:
            return response
        # Set LOGGED_IN only if the view has loaded the user or logged one in. Loading the user here would cost an
        # anonymous request another query.
        user = getattr(request, "user", None)
        person = getattr(request, "_cached_user", None) if isinstance(user, SimpleLazyObject) else user
        if person is not None and person.is_authenticated:
            request.META[LOGGED_IN] = request.session.session_key or ""
        return response
