"""Sizes of bodies: limits, compression bombs, bodies that are cut or have no length."""

import gzip
import io
import time
import tracemalloc
import zlib

import pytest
from pytest_django import Settings

from datasets.models import Dataset
from tests.conftest import Api, record, stored
from tests.ingest.api.bodies.sending import (
    COMPRESS,
    INVALID,
    JSON,
    LINES,
    NDJSON,
    TEXT,
    both_encodings,
    gzip_bomb,
    sent,
    told,
    zstd,
    zstd_bomb,
)
from tests.support.entries import in_stream
from tests.support.sending.wire import call


class Unread(io.BytesIO):
    """A body that must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("the body was read")


class Dribble(io.BytesIO):
    """A body that arrives seven bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7 if size is None or size < 0 else min(size, 7))


@pytest.mark.parametrize(("encoding", "bomb"), [("gzip", gzip_bomb()), ("zstd", zstd_bomb())], ids=["gzip", "zstd"])
def test_a_gibibyte_of_zeros_is_stopped_at_the_limit(api: Api, encoding: str, bomb: bytes) -> None:
    assert len(bomb) < 2_000_000
    assert sent(api, TEXT).status == 202  # create everything that is created on first use
    tracemalloc.start()
    try:
        answer = sent(api, bomb, encoding=encoding)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status, answer.json()["error"]) == (413, "Request body too large")
    assert peak < 48 * 1024**2


@both_encodings
def test_body_of_empty_members_is_read_in_linear_time(api: Api, encoding: str) -> None:
    """If the code copied the whole rest for each member, these 10 MB would take minutes."""
    empty = COMPRESS[encoding](b"")
    began = time.monotonic()
    answer = sent(api, empty * (10_000_000 // len(empty)), encoding=encoding)
    assert (answer.status, answer.json()["error"]) == (400, "Invalid JSON body")
    assert time.monotonic() - began < 30


def test_body_of_the_limit_is_accepted_and_one_byte_more_is_not(api: Api, settings: Settings) -> None:
    settings.MAX_BODY_BYTES = limit = len(TEXT) + 10
    fits, too_large = TEXT + b" " * 10, TEXT + b" " * 11
    refusal = {"error": "Request body too large", "code": "body_too_large", "limit": limit}
    for encode, encoding in ((bytes, ""), (gzip.compress, "gzip"), (zstd, "zstd")):
        for chunked in (True, False):
            body = encode(fits)
            assert sent(api, body, encoding=encoding, length="" if chunked else str(len(body))).status == 202
            body = encode(too_large)
            answer = sent(api, body, encoding=encoding, length="" if chunked else str(len(body)))
            assert (answer.status, answer.json()) == (413, refusal), (encoding, chunked)


def test_the_limit_holds_for_the_compressed_size_too(api: Api, settings: Settings) -> None:
    settings.MAX_BODY_BYTES = len(TEXT)
    answer = sent(api, gzip.compress(b"") * 100 + gzip.compress(TEXT), encoding="gzip")
    assert (answer.status, answer.json()["error"]) == (413, "Request body too large")


def test_a_body_that_announces_too_much_is_refused(api: Api, settings: Settings) -> None:
    answer = sent(api, io.BytesIO(), length=str(settings.MAX_BODY_BYTES + 1))
    assert (answer.status, answer.json()["limit"]) == (413, 10 * 1024 * 1024)


def test_a_body_without_a_good_key_or_dataset_is_not_read(api: Api, dataset: Dataset) -> None:
    assert sent(Api("nonsense", dataset), Unread()).status == 401
    assert sent(Api(None, dataset), Unread()).status == 401
    unknown = Dataset(pk=dataset.pk + 1)
    assert sent(Api(api.token, unknown), Unread()).status == 404
    assert sent(api, Unread(), content_type="text/plain").status == 415


def test_only_a_body_that_was_not_read_ends_the_connection(api: Api, dataset: Dataset) -> None:
    """Otherwise the server would read the client's next request as the rest of this body."""
    length = str(len(TEXT))
    assert sent(Api("nonsense", dataset), io.BytesIO(), length=length).headers["Connection"] == "close"
    assert sent(api, io.BytesIO(), content_type="text/plain", length=length).headers["Connection"] == "close"
    for body in (TEXT, b"{".ljust(len(TEXT))):
        assert "Connection" not in sent(api, body, length=length).headers
    assert "Connection" not in call("/healthz", "GET").headers


def test_a_chunked_body_is_read_to_its_end_in_pieces_of_any_size(api: Api, dataset: Dataset) -> None:
    assert sent(api, Dribble(TEXT)).status == 202
    assert sent(api, Dribble(gzip.compress(TEXT)), encoding="gzip").status == 202
    assert sent(api, Dribble(TEXT), length=str(len(TEXT))).status == 202
    assert sent(api, Dribble(b"[%b]" % b",".join(LINES)), "/batch").status == 202
    assert len(stored(dataset)) == 6


def test_chunked_lines_are_read_to_their_end_in_pieces_of_any_size(api: Api, dataset: Dataset) -> None:
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked"}
    lines = b"".join(LINES)
    bodies = {"identity": lines, "deflate": zlib.compress(lines), "gzip": gzip.compress(lines), "zstd": zstd(lines)}
    for encoding, body in bodies.items():
        for path in ("/validate", "/batch"):
            assert sent(api, Dribble(body), path, NDJSON, encoding, **chunked).json()["count"] == 3
    assert len(stored(dataset)) == 4 * 3


@both_encodings
def test_no_part_of_a_json_array_is_a_shorter_array(api: Api, dataset: Dataset, encoding: str) -> None:
    """A JSON text shows by itself that it is complete, even without a length and in several members or frames."""
    compress = COMPRESS[encoding]
    whole = b" [%b ,\n%b]" % (TEXT, TEXT)
    pieces = [compress(whole[at : at + 5]) for at in range(0, len(whole), 5)]
    for count in range(len(pieces)):
        answer = sent(api, io.BytesIO(b"".join(pieces[:count])), "/batch", JSON, encoding)
        assert (answer.status, answer.json()["error"]) == (400, "Invalid JSON body"), count
    assert in_stream(dataset) == 0
    assert sent(api, io.BytesIO(b"".join(pieces)), "/batch", JSON, encoding).status == 202


def test_a_missing_ndjson_body_is_not_json(api: Api) -> None:
    """A request without a length and without chunks has no body. A last chunk alone is an empty body."""
    host = {"HTTP_HOST": "localhost"}
    for path in ("/batch", "/validate"):
        for protocol in ("HTTP/1.0", "HTTP/1.1"):
            answer = sent(api, b"", path, NDJSON, length="", SERVER_PROTOCOL=protocol, **host)
            assert (answer.status, told(answer)) == (400, INVALID)
        chunks = {**host, "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_TRANSFER_ENCODING": "chunked"}
        answer = sent(api, b"", path, NDJSON, length="", **chunks)
        assert (answer.status, told(answer)) == (400, INVALID)


def test_a_body_shorter_than_it_announced_is_refused(api: Api, dataset: Dataset) -> None:
    """The client has disconnected between two lines, so the part that has arrived is valid NDJSON."""
    whole = b"".join(LINES)
    answer = sent(api, b"".join(LINES[:2]), "/batch", NDJSON, length=str(len(whole)))
    assert answer.json() == {**INVALID, "detail": "The body is shorter than its Content-Length."}
    assert in_stream(dataset) == 0


def test_batch_of_the_limit_is_accepted_and_a_longer_one_is_not(api: Api, dataset: Dataset, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 3
    assert api.batch([record()] * 3).status_code == 202
    assert sent(api, b"".join(LINES), "/batch", NDJSON).status == 202
    refusal = {"error": "Batch has too many records", "code": "too_many_records", "limit": 3}
    for body in ([record()] * 4, [record()] * 3 + [{}], [1, 2, 3, 4], b"[1,2,3,4]"):
        response = api.batch(body)
        assert (response.status_code, response.json()) == (413, refusal)
    for lines in (LINES + LINES[:1], [*LINES, b"{}"], [b"1\n"] * 4):
        answer = sent(api, b"".join(lines), "/batch", NDJSON)
        assert (answer.status, answer.json()) == (413, refusal)
    assert in_stream(dataset) == 2
