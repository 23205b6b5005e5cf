"""Call the application in this process as an ASGI server does, from clients without an event loop."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from types import EllipsisType
from typing import Any
from urllib.parse import quote, unquote

import httpx

from config.common import loop
from config.web.asgi import application

Headers = Iterable[tuple[bytes, bytes]]


def exchange(
    method: str,
    raw_path: bytes,
    headers: Headers,
    body: Iterator[bytes | EllipsisType],
    *,
    query: bytes = b"",
    version: str = "1.1",
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, headers and body of the application's answer.

    The request's body arrives in the pieces that `body` yields, and ends after the last piece. If `body` yields an
    ellipsis, the request's body has no end, but nothing more arrives.
    """
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": version,
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "headers": list(headers),
        "server": ("testserver", "80"),
        "client": ("127.0.0.1", "1"),
    }
    pieces = iter(body)
    sent: list[Mapping[str, Any]] = []
    is_over = False

    async def receive() -> Mapping[str, Any]:
        nonlocal is_over
        piece = ... if is_over else next(pieces, None)
        if isinstance(piece, EllipsisType):
            await asyncio.Event().wait()  # the client stays connected, and sends nothing more
        is_over = piece is None
        return {"type": "http.request", "body": piece or b"", "more_body": not is_over}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    loop.run(application(scope, receive, send))
    start, *parts = sent
    assert not parts[-1].get("more_body", False)
    return start["status"], list(start["headers"]), b"".join(part["body"] for part in parts)


def as_wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application, for servers and clients of the tests that only know WSGI."""
    headers = [(name[5:].lower().replace("_", "-"), text) for name, text in environ.items() if name[:5] == "HTTP_"]
    headers += [(name.lower().replace("_", "-"), environ.get(name, "")) for name in ("CONTENT_TYPE", "CONTENT_LENGTH")]
    size = int(environ.get("CONTENT_LENGTH") or 0)
    status, found, content = exchange(
        environ["REQUEST_METHOD"],
        quote(environ["PATH_INFO"], encoding="latin-1", safe="/").encode(),
        [(name.encode(), text.encode("latin-1")) for name, text in headers if text],
        iter([environ["wsgi.input"].read(size)] if size else []),
        query=environ.get("QUERY_STRING", "").encode("latin-1"),
    )
    decoded = [(name.decode().title(), value.decode("latin-1")) for name, value in found if name != b"connection"]
    start_response(f"{status} {HTTPStatus(status).phrase}", decoded)
    return [content]


class Transport(httpx.BaseTransport):
    """Sends requests of httpx to the application, without a network."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        pieces = request.stream
        assert isinstance(pieces, httpx.SyncByteStream)
        status, answer_headers, content = exchange(
            request.method,
            request.url.raw_path.partition(b"?")[0],
            headers,
            iter(pieces),
            query=request.url.query,
        )
        return httpx.Response(status, headers=answer_headers, stream=httpx.ByteStream(content))
