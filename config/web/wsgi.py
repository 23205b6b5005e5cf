"""The WSGI application: the API's short stack, and Django's whole one for the admin."""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import django
from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest, get_path_info
from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch, get_resolver

from config.common import arrival
from config.common.errors import ApiError, to_response
from config.common.requests import BODY_WAS_READ, SENDER, request_id
from config.web import lingering, share

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"  # whatever another project has exported
django.setup(set_prefix=False)


class ApiRequest(WSGIRequest):
    """A request of the API. The body is left to who knows whose it is, and so is the Content-Type, which may be bad."""

    content_type = None
    _read_started = True  # so Django does not try

    def __init__(self, environ: dict[str, Any]) -> None:
        path = environ["PATH_INFO"]
        self.path = self.path_info = path if path.isascii() else get_path_info(environ)
        self.environ = self.META = environ
        self.method = environ["REQUEST_METHOD"]  # Django has it in capitals, but `post` is another method than `POST`
        self.resolver_match = None


class ApiHandler(BaseHandler):
    """Django's request handler without middleware, and without the signals around a request.

    Those signals look after database connections and the cache at each request. The API's hot path touches no
    database; where it must (a contract not yet cached), `datasets.contracts.catalog` looks after the connection itself.
    """

    _middleware_chain: Callable[[HttpRequest], HttpResponse]  # made by load_middleware

    def __init__(self) -> None:
        site_middleware, settings.MIDDLEWARE = settings.MIDDLEWARE, []
        try:
            self.load_middleware()
        finally:
            settings.MIDDLEWARE = site_middleware

    def get_response(self, request: HttpRequest) -> HttpResponse:
        """Django's, without what it does for a site: a URL configuration per request, and a log line for each 4xx."""
        return self._middleware_chain(request)

    def _get_response(self, request: HttpRequest) -> HttpResponse:
        """Django's, without what middleware may do to a view, and without transactions around it."""
        if _has_no_single_host(request.META):
            return to_response(ApiError({"detail": "An HTTP/1.1 request needs one Host header."}))
        match = self.resolve_request(request)
        response: HttpResponse = match.func(request, *match.args, **match.kwargs)
        return response

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Django's own resolution, remembered: clients send to few addresses, and to each very often."""
        path = request.path_info
        match = _resolve(path) if len(path) <= _MAX_REMEMBERED_LENGTH else get_resolver().resolve(path)
        request.resolver_match = match
        return match

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = ApiRequest(environ)
        response = self.get_response(request)
        # The bare content, not the response: its close() would send `request_finished`, and the server would stream it.
        content = response.content
        headers = [*response.items(), ("Content-Length", str(len(content))), ("X-Request-Id", request_id(request))]
        if BODY_WAS_READ not in environ and _has_body(environ):
            headers.append(("Connection", "close"))
            start_response(f"{response.status_code} {response.reason_phrase}", headers)
            if response.status_code != arrival.BodyTooSlow.status and _is_coming(environ):
                return lingering.answer(content, environ["wsgi.input"], sender=environ.get(SENDER))
            return [content]
        start_response(f"{response.status_code} {response.reason_phrase}", headers)
        return [content]


def _has_body(environ: dict[str, Any]) -> bool:
    """Return whether a body was announced. If it was not read, the connection ends with the answer.

    Else a client would send its next request where the server still expects the rest of this one.
    """
    return environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ


def _has_no_single_host(environ: dict[str, Any]) -> bool:
    """Return whether a request must be refused because of its Host header (RFC 9112, 3.2). The server joins several."""
    host = environ.get("HTTP_HOST", "")
    return "," in host or (not host and environ.get("SERVER_PROTOCOL") == "HTTP/1.1")


def _is_coming(environ: dict[str, Any]) -> bool:
    """Return whether the client sends its body whatever the answer is.

    With `Expect: 100-continue` the client waits, and reading would tell it to go on.
    """
    return "HTTP_EXPECT" not in environ


# Every address of ours is shorter. Thousands of the longest that the server takes would be hundreds of megabytes.
_MAX_REMEMBERED_LENGTH = 200


@lru_cache(maxsize=16_384)
def _resolve(path: str) -> ResolverMatch:
    return get_resolver().resolve(path)  # an address that does not exist raises, and is not remembered


_api = ApiHandler()
_site = WSGIHandler()
_site_paths: tuple[str, ...] = settings.SITE_PATHS
_static_path: str = settings.STATIC_URL


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Hand a request to the stack that serves its path."""
    if not environ["PATH_INFO"].startswith(_site_paths):
        return _api(environ, start_response)
    environ["wsgi.input"] = arrival.WatchedInput(environ["wsgi.input"], who="the admin")
    if environ["PATH_INFO"].startswith(_static_path):
        return _whole(_site(environ, start_response))
    return share.serve(_site, environ, start_response)


def _whole(response: Any) -> list[bytes]:
    """A file at once. By pieces, the server would send it from a thread, which a client that does not read keeps."""
    try:
        return [b"".join(response)]
    finally:
        response.close()
