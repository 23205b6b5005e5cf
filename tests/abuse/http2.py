"""A connection that speaks HTTP/2 without TLS, frame by frame."""

import socket
from collections.abc import Sequence

from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.ingest.wire import Answer


class Http2Connection:
    """One connection, with a project's key, and one stream open at a time."""

    def __init__(self, port: int, token: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.token = token
        self.h2 = H2Connection()
        self.h2.initiate_connection()
        self.stream = 0

    def __enter__(self) -> "Http2Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def post(self, path: str, content_type: str, *more: tuple[str, str]) -> None:
        """Send the head of a POST."""
        self.stream = self.h2.get_next_available_stream_id()
        start = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "localhost")]
        own = [("authorization", f"Bearer {self.token}"), ("content-type", content_type)]
        self.h2.send_headers(self.stream, [*start, *own, *more])
        self._flush()

    def send(self, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(self.stream, data, end_stream=end)
        self._flush()

    def reset(self, code: ErrorCodes) -> None:
        self.h2.reset_stream(self.stream, code)
        self._flush()

    def answer(self) -> Answer | None:
        """Return the answer on the current stream, or None if the service reset it."""
        status, headers, body = 0, {}, b""
        while data := self.socket.recv(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, ResponseReceived):
                    headers = _text(event.headers)
                    status = int(headers.pop(":status"))
                elif isinstance(event, DataReceived):
                    body += event.data
                elif isinstance(event, StreamReset):
                    return None
                elif isinstance(event, StreamEnded):
                    return Answer(status, headers, body)
            self._flush()
        return None

    def _flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())


def _text(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
