"""If a sender disconnects in the middle of a body, no part of the body is stored."""

import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard

from tests.abuse.conftest import Tenant
from tests.abuse.test_wire import accepted, is_taken
from tests.support.sending.connection import LINE, TEXT

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}
JSON, NDJSON = "application/json", "application/x-ndjson"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_half_of_the_lines_is_refused_and_a_retry_accepted(tenant: Tenant, encoding: str) -> None:
    """The part is a complete member or frame with complete lines. Only a length shows that more should follow."""
    before = accepted(tenant)
    compress = COMPRESS[encoding]
    half = compress(LINE * 2)
    path = f"/datasets/{tenant.dataset}/batch"
    lines = [f"Content-Type: {NDJSON}", f"Content-Encoding: {encoding}", f"Idempotency-Key: half-{encoding}"]
    for length in ("Transfer-Encoding: chunked", f"Content-Length: {len(half) * 2}"):
        with tenant.connect() as connection:
            connection.head(f"POST {path}", *lines, length)
            connection.chunk(half) if "chunked" in length else connection.send(half)
    with tenant.connect() as connection:
        connection.head(f"POST {path}", *lines, "Transfer-Encoding: chunked")
        answer = connection.answer()
        assert answer.status == 411
        assert "Send the body with a Content-Length" in answer.json()["detail"]
    is_taken(tenant)  # by now the service has noticed the disconnections
    assert accepted(tenant) == before + 1
    whole = half if encoding == "deflate" else half * 2
    with tenant.connect() as connection:
        connection.head(f"POST {path}", *lines, f"Content-Length: {len(whole)}")
        connection.send(whole)
        assert connection.answer().status == 202
    assert accepted(tenant) == before + 1 + (2 if encoding == "deflate" else 4)


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
