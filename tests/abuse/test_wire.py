"""Malformed and ambiguous requests: heads and bodies that contradict themselves, bombs, unusual paths."""

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard
from redis import Redis

from config.common.env import embedded_redis_socket
from ingest.queue import redis_keys
from tests.abuse.conftest import THREADS, Tenant
from tests.ingest.api.bodies.sending import gzip_bomb, zstd_bomb
from tests.support.processes.stack import Stack
from tests.support.sending.connection import LINE, TEXT, Connection
from tests.support.sending.wire import Answer

MEBIBYTE = 1024 * 1024


def accepted(tenant: Tenant) -> int:
    """Return how many records of the tenant were accepted so far."""
    client: Any = Redis(unix_socket_path=str(embedded_redis_socket(tenant.stack.data_dir)))
    return int(client.get(redis_keys.accepted(tenant.dataset)) or 0)


def is_taken(tenant: Tenant) -> None:
    """Assert that an ordinary request on a new connection is accepted."""
    before = accepted(tenant)
    with tenant.connect() as connection:
        connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
        connection.send(TEXT)
        assert connection.answer().status == 202
    assert accepted(tenant) == before + 1


# -- where a body ends --------------------------------------------------------------------------------


def test_http_2_is_refused(tenant: Tenant) -> None:
    """Our limits are for connections, but an HTTP/2 connection carries many requests (docs/decisions/0027)."""
    settings_frame = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with tenant.connect() as connection:
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings_frame)
        assert connection.is_over()
    is_taken(tenant)


def test_bytes_after_a_body_are_not_a_request(tenant: Tenant) -> None:
    before = accepted(tenant)
    with tenant.connect() as connection:
        connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
        connection.send(TEXT + TEXT)
        assert connection.answer().status == 202
        assert connection.rest()[:12] in (b"", b"HTTP/1.1 400")
    assert accepted(tenant) == before + 1


def test_a_body_cut_off_by_the_connection_is_refused(tenant: Tenant) -> None:
    """In the first two cases, the part of the body that has arrived would be a valid body."""
    before = accepted(tenant)
    path, lines = f"/datasets/{tenant.dataset}/batch", "Content-Type: application/x-ndjson"
    with tenant.connect() as connection:
        connection.head(f"POST {path}", lines, f"Content-Length: {2 * len(LINE)}")
        connection.send(LINE)
    with tenant.connect() as connection:
        connection.head(f"POST {path}", lines, "Transfer-Encoding: chunked")
        connection.chunk(LINE)
    with tenant.connect() as connection:
        connection.head(f"POST {path}", lines)
        assert connection.answer().status == 400
    with tenant.connect() as connection:
        connection.post(path, "Transfer-Encoding: chunked")
        connection.chunk(b"[" + TEXT)
    is_taken(tenant)  # by now the service has noticed that the other connections have ended
    assert accepted(tenant) == before + 1


@pytest.mark.parametrize(
    "trailers", [b"", b"X-Request-Id: trailer\r\nContent-Length: 1\r\nAuthorization: Bearer x\r\n"]
)
def test_trailers_of_a_chunked_body_are_ignored(tenant: Tenant, trailers: bytes) -> None:
    before = accepted(tenant)
    with tenant.connect() as connection:
        for _ in range(2):
            connection.post(f"/datasets/{tenant.dataset}", "Transfer-Encoding: chunked", "X-Request-Id: head")
            for at in range(0, len(TEXT), 7):
                connection.chunk(TEXT[at : at + 7])
            connection.send(b"0\r\n" + trailers + b"\r\n")
            answer = connection.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (202, "head")
    assert accepted(tenant) == before + 2


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
CONTRADICTIONS = {
    "length and chunks": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "two lengths": ["Content-Length: 5", f"Content-Length: {len(TEXT)}"],
    "two lengths in one": [f"Content-Length: 5, {len(TEXT)}"],
    "a length with a sign": [f"Content-Length: +{len(TEXT)}"],
    "a negative length": ["Content-Length: -1"],
    "a length in hexadecimal": ["Content-Length: 0x10"],
    "a length beyond all numbers": [f"Content-Length: {10**30}"],
    "chunks that are not the last coding": ["Transfer-Encoding: chunked, gzip"],
    "an unknown coding": ["Transfer-Encoding: xchunked"],
    "a blank before the colon": ["Transfer-Encoding : chunked", f"Content-Length: {len(TEXT)}"],
    "a folded line": ["Transfer-Encoding:", " chunked", f"Content-Length: {len(TEXT)}"],
}


@pytest.mark.parametrize("lines", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_an_ambiguous_body_length_smuggles_no_request(tenant: Tenant, lines: list[str]) -> None:
    """If two readers disagreed on where the body ends, one would read the rest as another request."""
    before = accepted(tenant)
    with tenant.connect() as connection:
        connection.post(f"/datasets/{tenant.dataset}", *lines)
        connection.send(b"0\r\n\r\n" + SMUGGLED)
        assert connection.answer().status in (400, 411, 413, 501)
        assert connection.is_over()
    assert accepted(tenant) == before
    is_taken(tenant)


def test_continue_is_sent_only_if_the_body_is_wanted(tenant: Tenant) -> None:
    lines = ["Expect: 100-continue", f"Content-Length: {len(TEXT)}"]
    with tenant.connect() as connection:
        connection.post(f"/datasets/{tenant.dataset}", *lines)
        assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(TEXT)
        assert connection.answer().status == 202
    for token, dataset, more, status in (
        ("nonsense", tenant.dataset, [], 401),
        (tenant.token, 999_999, [], 404),
        (tenant.token, tenant.dataset, ["Content-Encoding: br"], 415),
    ):
        with Connection(tenant.stack.port, token) as connection:
            connection.post(f"/datasets/{dataset}", *lines, *more)
            assert connection.answer().status == status
            assert connection.is_over()


# -- bombs --------------------------------------------------------------------------------------------


def nested(encode: Any) -> bytes:
    """Return zeros, compressed twice. The service decompresses them once, and the result is not JSON."""
    return bytes(encode(encode(bytes(50 * MEBIBYTE))))


BOMBS = {
    "gzip": ("gzip", gzip_bomb(), 413),
    "zstd": ("zstd", zstd_bomb(), 413),
    "gzip in gzip": ("gzip", nested(gzip.compress), 400),
    "zstd in zstd": ("zstd", nested(zstandard.compress), 400),
    "many small gzip bombs": ("gzip", gzip.compress(bytes(MEBIBYTE)) * 200, 413),
    "many small zstd bombs": ("zstd", zstandard.compress(bytes(MEBIBYTE)) * 200, 413),
    "empty gzip members": ("gzip", gzip.compress(b"") * 100_000, 400),
    "empty zstd frames": ("zstd", zstandard.compress(b"") * 100_000, 400),
}


def test_the_memory_for_simultaneous_bombs_has_a_limit(tenant: Tenant) -> None:
    (pid,) = tenant.stack.web_processes()

    def throw(bomb: tuple[str, bytes, int]) -> Answer:
        encoding, data, _ = bomb
        with tenant.connect() as connection:
            connection.post(
                f"/datasets/{tenant.dataset}", f"Content-Encoding: {encoding}", f"Content-Length: {len(data)}"
            )
            connection.send(data)
            return connection.answer()

    is_taken(tenant)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the peak
    before = _peak(pid)
    with ThreadPoolExecutor(THREADS) as pool:
        answers = dict(zip(BOMBS, pool.map(throw, BOMBS.values()), strict=True))
    assert {name: answer.status for name, answer in answers.items()} == {
        name: status for name, (_, _, status) in BOMBS.items()
    }
    # A thread holds a body in its compressed form, and a little more than one decompressed body of the largest size.
    assert _peak(pid) - before < THREADS * 4 * 10 * MEBIBYTE
    is_taken(tenant)


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


# -- heads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["X-Much: " + "x" * MEBIBYTE, "\r\n".join(f"X-{n}: x" for n in range(1000)), "X" * MEBIBYTE + ": x"],
    ids=["a long value", "many", "a long name"],
)
def test_a_too_large_head_is_refused(tenant: Tenant, line: str) -> None:
    with tenant.connect() as connection:
        try:
            connection.post(f"/datasets/{tenant.dataset}", line, f"Content-Length: {len(TEXT)}")
            assert connection.answer().status in (400, 431)
        except (ConnectionResetError, BrokenPipeError):
            pass  # the service refused the request before all of it was sent
    is_taken(tenant)


def test_a_too_long_path_is_refused(tenant: Tenant) -> None:
    for path in ("/datasets/" + "1" * 70_000, "/datasets?" + "x" * 70_000, "/" + "datasets/" * 10_000):
        with tenant.connect() as connection:
            connection.post(path, "Content-Length: 0")
            assert connection.answer().status in (400, 414)
    is_taken(tenant)


INJECTIONS = [
    "a\r\nSet-Cookie: b=c",
    "a\nSet-Cookie: b=c",
    "a\rSet-Cookie: b=c",
    "a\x00b",
    "é",
    "%0d%0aSet-Cookie: b=c",
]


@pytest.mark.parametrize("name", ["X-Request-Id", "Idempotency-Key", "X-Loguro-Dataset-Id"])
@pytest.mark.parametrize("value", INJECTIONS)
def test_a_request_header_injects_no_answer_header(tenant: Tenant, name: str, value: str) -> None:
    with tenant.connect() as connection:
        connection.post(f"/datasets/{tenant.dataset}", f"{name}: {value}", f"Content-Length: {len(TEXT)}")
        connection.send(TEXT)
        answer = connection.answer()
    assert answer.status in (202, 400)
    assert "set-cookie" not in answer.headers
    assert not any(character in value for value in answer.headers.values() for character in "\r\n\x00")


def test_a_duplicate_header_is_refused(tenant: Tenant, neighbor: Tenant) -> None:
    before = accepted(tenant), accepted(neighbor)
    for name, one, other, status in (
        ("Authorization", f"Bearer {tenant.token}", f"Bearer {neighbor.token}", 401),
        ("X-Loguro-Dataset-Id", str(tenant.dataset), str(neighbor.dataset), 400),
    ):
        with Connection(tenant.stack.port, None if name == "Authorization" else tenant.token) as connection:
            connection.post("/datasets", f"{name}: {one}", f"{name}: {other}", f"Content-Length: {len(TEXT)}")
            connection.send(TEXT)
            assert connection.answer().status == status
    assert (accepted(tenant), accepted(neighbor)) == before


def test_a_request_names_its_host_once(tenant: Tenant) -> None:
    """RFC 9112, section 3.2, requires this. Old clients send HTTP/1.0, which needs no Host."""
    before = accepted(tenant)
    length, key = f"Content-Length: {len(TEXT)}", f"Authorization: Bearer {tenant.token}"
    for version, hosts, status in (
        ("HTTP/1.1", [], 400),
        ("HTTP/1.1", ["Host:"], 400),
        ("HTTP/1.1", ["Host: a", "Host: b"], 400),
        ("HTTP/1.1", ["Host: a", "Host: a"], 400),
        ("HTTP/1.0", ["Host: a", "Host: b"], 400),
        ("HTTP/1.1", ["Host: any_name:8000"], 202),
        ("HTTP/1.0", [], 202),
    ):
        with tenant.connect() as connection:
            lines = [
                f"POST /datasets/{tenant.dataset} {version}",
                *hosts,
                key,
                "Content-Type: application/json",
                length,
            ]
            connection.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode() + TEXT)
            answer = connection.answer()
            assert answer.status == status, (version, hosts)
            assert status == 202 or "Host" in answer.json()["detail"]
    assert accepted(tenant) == before + 2


# -- addresses and methods ----------------------------------------------------------------------------


def test_no_spelling_of_a_path_reaches_another_dataset(tenant: Tenant, neighbor: Tenant) -> None:
    before = accepted(tenant), accepted(neighbor)
    own, theirs = tenant.dataset, neighbor.dataset
    for path in (
        f"//datasets/{own}",
        f"/datasets//{own}",
        f"/datasets/./{own}",
        f"/datasets/x/../{own}",
        f"/admin/../datasets/{own}",
        f"/datasets/{own}/../{theirs}",
        f"/datasets/{own}%2f..%2f{theirs}",
        f"/datasets/{own}%00",
        f"/datasets/{own};x=1",
        f"/datasets/{own}.json",
        f"/datasets/{own}%0a",
        f"/datasets/+{own}",
        f"/datasets/0{own}",
        f"/datasets/{own}e0",
        f"/datasets/{own}.0",
        "/datasets/%D9%A1",  # an Arabic digit
        "/datasets/%EF%BC%91",  # a full-width digit
        f"/datasets/{2**64 + own}",
        f"/datasets/{theirs}",
        f"/DATASETS/{own}",
        f"/datasets/{own}//batch",
        f"/datasets/{own}%2Fbatch",
        f"/datasets%2f{own}",
        "/%2e%2e/%2e%2e/etc/passwd",
    ):
        with tenant.connect() as connection:
            connection.post(path, f"Content-Length: {len(TEXT)}")
            connection.send(TEXT)
            answer = connection.answer()
        if path.startswith("/admin/"):
            assert answer.status == 403  # from the admin: a form without its token
            continue
        assert answer.status in (400, 404), path
        assert "error" in answer.json()
        assert answer.headers["x-request-id"]
    assert (accepted(tenant), accepted(neighbor)) == before
    with tenant.connect() as connection:  # encoded digits are the same path (RFC 3986)
        connection.post(
            "/datasets/" + "".join(f"%{ord(digit):X}" for digit in str(own)), f"Content-Length: {len(TEXT)}"
        )
        connection.send(TEXT)
        assert connection.answer().status == 202


def test_a_header_name_with_underscores_means_nothing(tenant: Tenant, neighbor: Tenant) -> None:
    """Otherwise a client could send a value that a proxy neither checks nor replaces."""
    before = accepted(tenant)
    with tenant.connect() as connection:
        connection.post(
            "/datasets",
            f"X_Loguro_Dataset_Id: {tenant.dataset}",
            "X_Request_Id: underscore",
            f"Content-Length: {len(TEXT)}",
        )
        connection.send(TEXT)
        answer = connection.answer()
    assert answer.status == 404
    assert answer.headers["x-request-id"] != "underscore"
    assert accepted(tenant) == before


def test_only_the_method_that_was_sent_counts(tenant: Tenant) -> None:
    before = accepted(tenant)
    overrides = [f"{name}: POST" for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")]
    path = f"/datasets/{tenant.dataset}"
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "Post", "PROPFIND"):
        with tenant.connect() as connection:
            connection.head(f"{method} {path}?_method=POST", *overrides)
            answer = connection.answer(method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST"), method
        assert tenant.token.encode() not in answer.body
    for method in ("CONNECT localhost:80", "GET http://example.com/healthz", "OPTIONS *"):
        with tenant.connect() as connection:
            connection.head(method)
            assert connection.answer().status in (200, 400, 404, 405), method
    assert accepted(tenant) == before


def test_a_head_that_is_not_http_ends_the_connection(service: Stack, tenant: Tenant) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with Connection(service.port) as connection:
            connection.send(nonsense + bytes(100))
            assert connection.rest()[:12] in (b"", b"HTTP/1.1 400")
    is_taken(tenant)
