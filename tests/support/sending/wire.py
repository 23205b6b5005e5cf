"""Call the application as the web server does, without an HTTP client that would correct or refuse a request."""

import io
import json
from typing import IO, Any, NamedTuple

from config.web.wsgi import application


class Answer(NamedTuple):
    """What the application returned to the web server."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def call(path: str | bytes, method: str = "POST", *, stream: IO[bytes] | None = None, **environ: str) -> Answer:
    """Return the application's answer to these WSGI variables. PEP 3333 decodes the path's bytes as Latin-1."""
    path = path.encode() if isinstance(path, str) else path
    given: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.decode("latin-1"),
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "wsgi.input": stream or io.BytesIO(),
        **environ,
    }
    start: list[Any] = []
    body = b"".join(application(given, lambda status, headers: start.extend((status, headers))))
    status, headers = start
    assert len({name for name, _ in headers}) == len(headers), "a header was sent twice"
    return Answer(int(status.split()[0]), dict(headers), body)
