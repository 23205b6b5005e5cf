"""If a sender disconnects in the middle of a body, no part of the body is stored. Only a whole message counts."""

import gzip
import socket
import struct
import zlib
from collections.abc import Callable

import pytest
import zstandard

from tests.abuse.conftest import Tenant
from tests.abuse.test_wire import accepted, is_taken
from tests.support.sending.connection import LINE, TEXT, Connection

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}
JSON, NDJSON = "application/json", "application/x-ndjson"


def close(connection: Connection) -> None:
    """Close both sides of the connection, as when a client ends."""


def reset(connection: Connection) -> None:
    """Let the kernel reset the connection, as when a client is killed while answers wait for it."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def stop_sending(connection: Connection) -> None:
    """Close only our side of the connection, and wait until the service closes the other one."""
    connection.socket.shutdown(socket.SHUT_WR)
    connection.rest()


@pytest.mark.parametrize("encoding", COMPRESS)
def test_half_of_the_lines_is_refused_and_a_retry_accepted(tenant: Tenant, encoding: str) -> None:
    """The part is complete in its encoding, and its lines are complete. Only HTTP shows that more should follow."""
    before = accepted(tenant)
    compress = COMPRESS[encoding]
    half = compress(LINE * 2)
    path = f"/datasets/{tenant.dataset}/batch"
    lines = [f"Content-Type: {NDJSON}", f"Content-Encoding: {encoding}", f"Idempotency-Key: half-{encoding}"]
    for lose in (close, reset, stop_sending):
        for length in ("Transfer-Encoding: chunked", f"Content-Length: {len(half) * 2}"):
            with tenant.connect() as connection:
                connection.head(f"POST {path}", *lines, length)
                connection.chunk(half) if "chunked" in length else connection.send(half)
                lose(connection)
    is_taken(tenant)  # by now the service has noticed the disconnections
    assert accepted(tenant) == before + 1
    pieces = [half] if encoding == "deflate" else [half, half]
    with tenant.connect() as connection:
        connection.head(f"POST {path}", *lines, "Transfer-Encoding: chunked")
        for piece in pieces:
            connection.chunk(piece)
        connection.send(b"0\r\n\r\n")
        assert connection.answer().json()["count"] == 2 * len(pieces)
    assert accepted(tenant) == before + 1 + 2 * len(pieces)


def test_chunked_lines_cut_anywhere_are_all_or_nothing(tenant: Tenant) -> None:
    """Cut the message after each of its bytes. Only the whole message counts, with the last chunk and an empty line."""
    before = accepted(tenant)
    message = b"".join(b"%x\r\n%b\r\n" % (len(LINE), LINE) for _ in range(2)) + b"0\r\n\r\n"
    path, lines = f"/datasets/{tenant.dataset}/batch", [f"Content-Type: {NDJSON}", "Transfer-Encoding: chunked"]
    for size in range(len(message)):
        with tenant.connect() as connection:
            connection.head(f"POST {path}", *lines, *(["Expect: 100-continue"] if size % 2 else []))
            connection.send(message[:size])
            (close, reset)[size % 3 == 0](connection)
    is_taken(tenant)
    assert accepted(tenant) == before + 1
    with tenant.connect() as connection:
        connection.head(f"POST {path}", *lines)
        connection.send(message)
        assert connection.answer().json()["count"] == 2


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_half_of_an_array_is_refused_without_a_length(tenant: Tenant, encoding: str) -> None:
    before = accepted(tenant)
    compress = COMPRESS[encoding]
    path = f"/datasets/{tenant.dataset}/batch"
    pieces = [compress(b"[" + TEXT), compress(b"," + TEXT), compress(b"]")]
    for count in range(len(pieces) + 1):
        with tenant.connect() as connection:
            connection.post(path, "Transfer-Encoding: chunked", f"Content-Encoding: {encoding}")
            for piece in pieces[:count]:
                connection.chunk(piece)
            if count == len(pieces):
                connection.send(b"0\r\n\r\n")
                assert connection.answer().status == 202
    is_taken(tenant)
    assert accepted(tenant) == before + 3


def test_http_1_0_without_a_length_has_no_body(tenant: Tenant) -> None:
    before = accepted(tenant)
    with tenant.connect() as connection:
        head = f"POST /datasets/{tenant.dataset} HTTP/1.0\r\nAuthorization: Bearer {tenant.token}\r\n"
        connection.send(f"{head}Content-Type: application/json\r\n\r\n".encode() + TEXT)
        assert connection.answer().status == 400
    assert accepted(tenant) == before
