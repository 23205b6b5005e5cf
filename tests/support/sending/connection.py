"""A raw connection to the service, to send what no HTTP client would send."""

import json
import socket
from http.client import HTTPResponse

from tests.support.sending.wire import Answer

ROW = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "text": "x"}
TEXT = json.dumps(ROW).encode()
LINE = TEXT + b"\n"


class Connection:
    """One connection. Requests carry a project's API key."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.token = token

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self, start: str, *lines: str) -> None:
        """Send the head of a request. `start` is its first line without the version, `lines` are more headers."""
        own = [] if self.token is None else [f"Authorization: Bearer {self.token}"]
        given = [f"{start} HTTP/1.1", "Host: localhost", *own, *lines]
        self.send("".join(f"{line}\r\n" for line in [*given, ""]).encode())

    def post(self, path: str, *lines: str) -> None:
        """Send the head of a POST request with JSON."""
        self.head(f"POST {path}", "Content-Type: application/json", *lines)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self, method: str = "POST") -> Answer:
        """Read the next answer."""
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def rest(self) -> bytes:
        """Read everything until the service closes the connection."""
        said = b""
        try:
            while more := self.socket.recv(65536):
                said += more
        except ConnectionResetError:
            pass
        return said

    def is_over(self) -> bool:
        """Wait until the service closes the connection. Return False if it sent anything before that."""
        return self.rest() == b""
