"""Call the application as the web server does, without an HTTP client that would correct or refuse a request."""

import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple
from urllib.parse import quote

from tests.support.sending.asgi import exchange


class Answer(NamedTuple):
    """What the application returned to the web server."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def call(path: str | bytes, method: str = "POST", *, stream: IO[bytes] | None = None, **environ: str) -> Answer:
    """Return the application's answer. Headers have the names of a WSGI environment. `stream` contains the body.

    A body without CONTENT_LENGTH is chunked only if HTTP_TRANSFER_ENCODING says so.
    """
    version = environ.pop("SERVER_PROTOCOL", "HTTP/1.0").partition("/")[2]
    headers = [
        (name.removeprefix("HTTP_").lower().replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in environ.items()
        if value or name not in ("CONTENT_LENGTH", "HTTP_CONTENT_ENCODING")
    ]
    raw_path = quote(path, safe="/").encode()
    status, found, body = exchange(method, raw_path, headers, _pieces(stream), version=version)
    names = [_title(name) for name, _ in found]
    assert len(set(names)) == len(names), "a header occurs twice"
    return Answer(status, dict(zip(names, (value.decode("latin-1") for _, value in found), strict=True)), body)


def _pieces(stream: IO[bytes] | None) -> Iterator[bytes]:
    while stream is not None and (piece := stream.read(65_536)):
        yield piece


def _title(name: bytes) -> str:
    text = name.decode().title()
    return {"X-Request-Id": "X-Request-Id", "Www-Authenticate": "WWW-Authenticate"}.get(text, text)
