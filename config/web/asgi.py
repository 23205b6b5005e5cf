"""The ASGI application: the API in the event loop, and Django's own handler for the admin, in threads."""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import django
from django.conf import settings
from django.urls import Resolver404

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"  # even if the shell has the settings of another project
django.setup(set_prefix=False)

from config.common.errors import ApiError, InternalError, NotFound, to_response  # noqa: E402
from config.common.requests import request_id  # noqa: E402
from config.web import lingering, site  # noqa: E402
from ingest.api.bypasses import Answer, ApiRequest, Receive, resolve  # noqa: E402
from ingest.errors import BodyTooSlow  # noqa: E402

logger = logging.getLogger(__name__)

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
_SITE_PATHS: tuple[str, ...] = tuple(settings.SITE_PATHS)


async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Pass a request to the code that serves its path."""
    if scope["type"] != "http":
        raise NotImplementedError(f"ASGI's {scope['type']} is not served")
    if scope["path"].startswith(_SITE_PATHS):
        await site.serve(scope, receive, send)
        return
    request = ApiRequest(scope, receive)
    response = await _answer(request, scope)
    content = response.content
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    headers += request.cors
    if response.status_code not in (204, 304):  # these have no body, and so no length (RFC 9110, 8.6)
        headers.append((b"content-length", b"%d" % len(content)))
    headers.append((b"x-request-id", request_id(request).encode()))
    start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
    if not request.body_was_read and _has_body(request.META):
        # A client that has sent `Expect: 100-continue` waits. Reading now would make it send its body.
        is_coming = response.status_code != BodyTooSlow.status and "HTTP_EXPECT" not in request.META
        if not is_coming or not await lingering.was_discarded(receive, request.META.get("CONTENT_LENGTH", "")):
            headers.append((b"connection", b"close"))
            if is_coming:
                await lingering.keep_open(scope, sender=request.sender)
    await send(start)
    await send({"type": "http.response.body", "body": content})


async def _answer(request: ApiRequest, scope: Mapping[str, Any]) -> Answer:
    if _has_no_single_host(request.META, scope):
        return to_response(ApiError({"detail": "An HTTP/1.1 request needs one Host header."}))
    if b"%2f" in scope["raw_path"].lower():  # routing would mistake it for a slash between two parts of the path
        return to_response(NotFound())
    try:
        match = resolve(request.path)
        response: Answer = await match.func(request, *match.args, **match.kwargs)
    except Resolver404:
        return to_response(NotFound())
    except Exception:  # a defect outside of the views: they handle their own exceptions
        logger.exception("unforeseen error in %s", request.path)
        return to_response(InternalError())
    return response


def _has_body(meta: Mapping[str, str]) -> bool:
    """Return whether a request announces a body. If we do not read the body, the connection ends with the answer.

    Otherwise the server could read the client's next request as the rest of this body.
    """
    return meta.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in meta


def _has_no_single_host(meta: Mapping[str, str], scope: Mapping[str, Any]) -> bool:
    """Return whether a request must be refused because of its Host header (RFC 9112, 3.2)."""
    host = meta.get("HTTP_HOST", "")
    return "," in host or (not host and scope["http_version"] == "1.1")
