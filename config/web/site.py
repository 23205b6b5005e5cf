"""Serve the admin, its static files and the management API: call Django's own WSGI handler in threads."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import close_old_connections
from django.http import HttpRequest

from config.common import loop
from config.common.errors import ApiError, NotFound, to_response
from config.common.requests import IS_GONE, request_id
from config.common.threads import Lane
from config.web import share
from datasets.api.errors import ServiceUnavailable
from ingest.validation.body import arrive
from ingest.validation.room import Hold

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_BUSY = {"detail": "More requests arrive than this server can serve now. Nothing was done. Send the request again."}
_handler = WSGIHandler()
_PAGES = Lane("admin", settings.ADMIN_THREADS)
_CALLS = Lane("management", share.MANAGEMENT_API.threads)
_FILES = Lane("static", 2)
_QUERIES = Lane("queries", share.QUERIES.threads)
_STREAMS = Lane("streams", max(2, settings.ADMIN_THREADS // 2))
_IS_QUERY = re.compile("/query/?$").search
_IS_SEARCH = re.compile("^/admin/ingest/datasetrecords/[0-9]+/change/$").search


@dataclass(slots=True)
class Answer:
    """An answer for the client."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes
    stream: Any = None  # a streaming response in place of the content
    seconds: float = 0.0  # seconds of processor time that the answer took


async def serve(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer a request for a page or a file."""
    loop.remember()
    with Hold("the admin") as hold:
        environ = _environ(scope)
        if scope["path"].startswith(settings.STATIC_URL):
            answer = await _FILES.run(_file, environ)
        elif scope["path"].startswith("/api/"):
            answer = await _call_of_api(environ, scope["raw_path"], receive, hold)
        else:
            answer = await _page(environ, receive, hold)
    await _send(answer, receive, send)


async def _page(environ: dict[str, Any], receive: Receive, hold: Hold) -> Answer:
    """Return Django's answer if the admin's share allows it, else a page that asks the user to try again."""
    busy = Answer(503, [*share.HEADERS, (b"content-length", b"%d" % len(share.PAGE))], share.PAGE)
    visitor = share.Visitor(environ, of_api=False)
    if not visitor.is_welcome():
        return busy
    try:
        environ["wsgi.input"] = BytesIO(await _body(environ, receive, hold))
    except ApiError:  # the body came too slowly, its connection was lost, or there is no memory for it
        return busy
    is_search = environ["QUERY_STRING"] and _IS_SEARCH(environ["PATH_INFO"])
    async with (share.QUERIES if is_search else share.ADMIN).place() as place:
        if not place:
            return busy
        answer = await (_query(environ, receive) if is_search else _PAGES.run(_whole_or_stream, environ))
    visitor.charge(environ, answer.seconds)
    return answer


async def _call_of_api(environ: dict[str, Any], raw_path: bytes, receive: Receive, hold: Hold) -> Answer:
    """Return Django's answer to a request of the management API, or an error in JSON."""
    visitor = share.Visitor(environ, of_api=True)
    try:
        if b"%2f" in raw_path.lower():  # routing would mistake it for a slash between two parts of the path
            raise NotFound
        if not visitor.is_welcome():
            raise ServiceUnavailable(_BUSY)
        environ["wsgi.input"] = BytesIO(await _body(environ, receive, hold))
        is_query = environ["REQUEST_METHOD"] == "POST" and _IS_QUERY(environ["PATH_INFO"])
        async with (share.QUERIES if is_query else share.MANAGEMENT_API).place() as place:
            if not place:
                raise ServiceUnavailable(_BUSY)
            answer = await (_query(environ, receive) if is_query else _CALLS.run(_whole_or_stream, environ))
    except ApiError as refusal:
        return _refused(environ, refusal)
    visitor.charge(environ, answer.seconds)
    return answer


async def _query(environ: dict[str, Any], receive: Receive) -> Answer:
    """Return Django's answer to a query or a search of records. Cancel the query if the client disconnects."""
    gone = asyncio.ensure_future(_until_gone(receive))
    environ[IS_GONE] = gone.done
    try:
        return await _QUERIES.run(_whole_or_stream, environ)
    finally:
        gone.cancel()


def _refused(environ: dict[str, Any], refusal: ApiError) -> Answer:
    request = HttpRequest()
    request.META = environ
    answer = _read(_answer_of(to_response(refusal)))
    answer.headers += [(b"connection", b"close"), (b"x-request-id", request_id(request).encode())]
    return answer


async def _body(environ: Mapping[str, Any], receive: Receive, hold: Hold) -> bytes:
    """Read a body before its request takes a thread. If it is too large, do not read it, because Django refuses it."""
    length = environ.get("CONTENT_LENGTH", "")
    if not length.isdecimal() or not 0 < int(length) <= (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0):
        return b""
    return await arrive(receive, int(length), int(length), hold)


def _environ(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request's WSGI environment (PEP 3333), with an empty body."""
    server, client = scope.get("server") or ("", 0), scope.get("client") or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": "HTTP/1.1" if scope["http_version"] == "1.1" else "HTTP/1.0",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(),
        "wsgi.errors": None,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" in name:  # otherwise X_Forwarded_For would count as X-Forwarded-For
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        text = value.decode("latin-1")
        if key not in environ:
            environ[key] = text
        elif key != "CONTENT_TYPE":
            environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + text
    return environ


def _whole_or_stream(environ: dict[str, Any]) -> Answer:
    """Call Django, in a thread. Only exports and large results of queries are streamed."""
    began = time.thread_time()
    answer = _call(environ)
    if not answer.stream.streaming:
        answer = _read(answer)
    else:
        # At the end of the stream, Django would close the connections of another thread.
        close_old_connections()
    if environ.get("CONTENT_LENGTH", "0") not in ("", "0") and not environ["wsgi.input"].getbuffer().nbytes:
        answer.headers.append((b"connection", b"close"))  # the body was not read
    answer.seconds = time.thread_time() - began
    return answer


def _file(environ: dict[str, Any]) -> Answer:
    """Return a static file as a whole, so that a client that does not read holds no thread."""
    return _read(_call(environ))


def _start_response(status: str, headers: Any, error: Any = None, /) -> Callable[[bytes], object]:
    """Ignore the arguments: the response that Django returns has the same status and headers."""
    return len


def _call(environ: dict[str, Any]) -> Answer:
    return _answer_of(_handler(environ, _start_response))


def _answer_of(response: Any) -> Answer:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    headers += [(b"set-cookie", cookie.OutputString().encode("latin-1")) for cookie in response.cookies.values()]
    return Answer(response.status_code, headers, b"", response)


def _read(answer: Answer) -> Answer:
    try:
        answer.content = b"".join(answer.stream)
    finally:
        answer.stream.close()
    answer.stream = None
    return answer


async def _send(answer: Answer, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    if answer.stream is not None:
        await _send_stream(answer.stream, receive, send)
    await send({"type": "http.response.body", "body": answer.content})


async def _send_stream(stream: Any, receive: Receive, send: Send) -> None:
    """Send the parts of a streaming response as they are made, until the client has gone."""
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        parts: Iterator[bytes] = iter(stream)
        while not gone.done() and (part := await _STREAMS.run(next, parts, None)) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    finally:
        gone.cancel()
        await _STREAMS.run(stream.close)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
