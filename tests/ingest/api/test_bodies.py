"""Bodies on the wire: media types, encodings, sizes, and what is not JSON."""

import gzip
import io
import json
import time
import tracemalloc
import zlib

import pytest
import zstandard
from pytest_django import Settings

from config.common import redis
from datasets.models import Dataset
from tests.conftest import Api, record, stored
from tests.support.entries import in_stream
from tests.support.wire import Answer, call

JSON, NDJSON = "application/json", "application/x-ndjson"
TEXT = json.dumps(record()).encode()
LINES = [json.dumps(record(country=country)).encode() + b"\n" for country in ("RO", "US", "DE")]
INVALID = {"error": "Invalid JSON body", "code": "invalid_json"}
GIBIBYTE = 1024**3


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


COMPRESS = {"gzip": gzip.compress, "zstd": zstd}
both_encodings = pytest.mark.parametrize("encoding", COMPRESS)


class Unread(io.BytesIO):
    """A body that must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("the body was read")


class Dribble(io.BytesIO):
    """A body that arrives seven bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7 if size is None or size < 0 else min(size, 7))


def told(answer: Answer, *details: str) -> dict[str, object]:
    """Return the error, and these details; test_details.py looks at the others."""
    return {name: answer.json()[name] for name in ("error", "code", *details)}


def sent(
    api: Api,
    data: bytes | io.BytesIO,
    path: str = "",
    content_type: str = JSON,
    encoding: str = "",
    length: str | None = None,
    **environ: str,
) -> Answer:
    """POST to the dataset as the web server passes a request on. A stream, or a length of "", is a chunked body."""
    assert api.dataset is not None
    if length is None:
        length = str(len(data)) if isinstance(data, bytes) else ""
    return call(
        f"/datasets/{api.dataset.pk}{path}",
        stream=io.BytesIO(data) if isinstance(data, bytes) else data,
        HTTP_AUTHORIZATION=f"Bearer {api.token}",
        CONTENT_TYPE=content_type,
        CONTENT_LENGTH=length,
        HTTP_CONTENT_ENCODING=encoding,
        **environ,
    )


# -- media types --------------------------------------------------------------------------------------


TAKEN_AS_JSON = (
    "application/json",
    "APPLICATION/JSON",
    " application/json ",
    "application/json;",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    'application/json; charset="utf-8"',
    "application/json; charset*=utf-8''utf-8",
    "application/json; profile=x",
)
NOT_TAKEN = (
    "",
    "text/plain",
    "application/jsonp",
    "application/vnd.api+json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json, text/plain",
    "application/json; charset=latin-1",
    "application/json; charset=utf-16",
    "application/json; charset=",
    "application/json; charset*=nonsense''utf-8",
    "application/json; charset*=utf-8''%ff",
    "application/x-ndjson; charset=latin-1",
)
OTHER_ENCODINGS = ("br", "compress", "gzip, gzip", "identity, gzip", "gzip;q=1", "*", "zip")


def test_json_is_application_json_in_utf_8(api: Api) -> None:
    for content_type in TAKEN_AS_JSON:
        assert sent(api, TEXT, "", content_type).status == 202, content_type
        assert sent(api, b"[%b]" % TEXT, "/batch", content_type).status == 202, content_type
        assert sent(api, TEXT, "/validate", content_type).status == 200, content_type


def test_other_media_types_are_a_415(api: Api) -> None:
    for content_type in NOT_TAKEN:
        for path in ("", "/batch", "/validate"):
            answer = sent(api, TEXT, path, content_type)
            assert answer.status == 415
            body = answer.json()
            assert body.pop("detail")  # see test_spellings
            assert body == {
                "error": "Unsupported media type",
                "code": "unsupported_media_type",
                "expected": "application/json, or on a batch application/x-ndjson; charset utf-8 or none",
                "received": content_type,
            }


def test_ndjson_is_for_batches(api: Api, dataset: Dataset) -> None:
    answer = sent(api, TEXT, "", NDJSON)
    assert (answer.status, answer.json()["error"]) == (415, "Unsupported media type")
    assert (answer.json()["expected"], answer.json()["received"]) == (JSON, NDJSON)
    for content_type in (NDJSON, "Application/X-NDJSON; charset=utf-8"):
        assert sent(api, b"".join(LINES), "/batch", content_type).status == 202
        assert sent(api, b"".join(LINES), "/validate", content_type).json() == {"valid": True, "count": 3}
    assert len(stored(dataset)) == 6


# -- compressed bodies --------------------------------------------------------------------------------


@both_encodings
def test_a_compressed_body_is_stored_as_what_it_holds(api: Api, dataset: Dataset, encoding: str) -> None:
    compress = COMPRESS[encoding]
    assert api.one(compress(TEXT), Content_Encoding=encoding).status_code == 202
    assert api.one(compress(TEXT), Content_Encoding=encoding.upper()).status_code == 202
    assert sent(api, compress(b"[%b]" % TEXT), "/batch", JSON, encoding).status == 202
    assert sent(api, compress(b"".join(LINES)), "/batch", NDJSON, encoding).status == 202
    assert api.one(TEXT, Content_Encoding="identity").status_code == 202
    rows = stored(dataset)
    assert [row["country"] for row in rows] == ["RO", "RO", "RO", "RO", "US", "DE", "RO"]
    assert {row["context"] for row in rows} == {json.dumps(record()["context"])}


@both_encodings
def test_all_members_of_a_compressed_body_are_read(api: Api, dataset: Dataset, encoding: str) -> None:
    compress = COMPRESS[encoding]
    pieces = [compress(b""), *(compress(line[:50]) + compress(line[50:]) for line in LINES), compress(b"")]
    assert sent(api, b"".join(pieces), "/batch", NDJSON, encoding).status == 202
    assert [row["country"] for row in stored(dataset)] == ["RO", "US", "DE"]


def test_a_skippable_frame_of_zstd_is_skipped(api: Api) -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert sent(api, skippable + zstd(TEXT) + skippable, encoding="zstd").status == 202


@both_encodings
def test_cut_compressed_body_is_refused_wherever_it_ends(api: Api, encoding: str) -> None:
    """A batch is all or nothing, so a cut between lines is refused although the rest is valid NDJSON."""
    compressor = zlib.compressobj(wbits=31) if encoding == "gzip" else zstandard.ZstdCompressor().compressobj()
    flush = zlib.Z_FULL_FLUSH if encoding == "gzip" else zstandard.COMPRESSOBJ_FLUSH_BLOCK
    whole = b"".join(compressor.compress(line) + compressor.flush(flush) for line in LINES) + compressor.flush()
    assert sent(api, whole, "/validate", NDJSON, encoding).json() == {"valid": True, "count": 3}
    for cut in range(len(whole)):
        answer = sent(api, whole[:cut], "/validate", NDJSON, encoding)
        assert (answer.status, answer.json()["error"]) == (400, "Invalid JSON body"), cut
    assert answer.json()["detail"] == f"The {encoding} body is cut short."


@both_encodings
def test_a_body_that_is_not_what_its_encoding_says_is_refused(api: Api, encoding: str) -> None:
    whole = COMPRESS[encoding](TEXT)
    other = COMPRESS["zstd" if encoding == "gzip" else "gzip"](TEXT)
    damaged = whole[:40] + bytes([whole[40] ^ 0xFF]) + whole[41:]
    for body in (TEXT, other, b"\x00" * 100, whole + b"and more", damaged, b"\xff" + whole):
        answer = sent(api, body, encoding=encoding)
        assert (answer.status, answer.json()["error"]) == (400, "Invalid JSON body"), body[:20]


def test_other_encodings_are_a_415(api: Api) -> None:
    for encoding in OTHER_ENCODINGS:
        answer = sent(api, TEXT, encoding=encoding)
        assert answer.status == 415
        body = answer.json()
        assert body.pop("detail")  # see test_spellings
        assert body == {
            "error": "Unsupported content encoding",
            "code": "unsupported_content_encoding",
            "expected": "identity, gzip, deflate or zstd",
            "received": encoding,
        }


# -- sizes --------------------------------------------------------------------------------------------


def gzip_bomb() -> bytes:
    """1 GiB of zeros: after a full flush, what a compressor says of the same data is the same again."""
    compressor = zlib.compressobj(wbits=31)
    start = compressor.compress(b"") + compressor.flush(zlib.Z_FULL_FLUSH)
    mebibyte = compressor.compress(bytes(1024**2)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return start + mebibyte * 1024 + compressor.flush()


def zstd_bomb() -> bytes:
    """1 GiB of zeros, in blocks of 128 KiB that are one byte repeated (RFC 8878, 3.1.1.2.2)."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, (23 - 10) << 3])
    block = ((128 * 1024) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return frame + block * (GIBIBYTE // (128 * 1024))


@pytest.mark.parametrize(("encoding", "bomb"), [("gzip", gzip_bomb()), ("zstd", zstd_bomb())], ids=["gzip", "zstd"])
def test_a_gibibyte_of_zeros_is_stopped_at_the_limit(api: Api, encoding: str, bomb: bytes) -> None:
    assert len(bomb) < 2_000_000
    assert sent(api, TEXT).status == 202  # everything that is made on first use is made
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
    """If the code looked at the whole rest for each member, these 10 MB would take minutes."""
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
    """A client would send its next request where the server is still waiting for the rest of this one."""
    length = str(len(TEXT))
    assert sent(Api("nonsense", dataset), io.BytesIO(), length=length).headers["Connection"] == "close"
    assert sent(api, io.BytesIO(), content_type="text/plain", length=length).headers["Connection"] == "close"
    for body in (TEXT, b"{".ljust(len(TEXT))):
        assert "Connection" not in sent(api, body, length=length).headers
    assert "Connection" not in call("/healthz", "GET").headers


def test_a_chunked_body_is_read_to_its_end_however_it_arrives(api: Api, dataset: Dataset) -> None:
    assert sent(api, Dribble(TEXT)).status == 202
    assert sent(api, Dribble(gzip.compress(TEXT)), encoding="gzip").status == 202
    assert sent(api, Dribble(TEXT), length=str(len(TEXT))).status == 202
    assert sent(api, Dribble(b"[%b]" % b",".join(LINES)), "/batch").status == 202
    assert len(stored(dataset)) == 6


def test_lines_without_a_length_are_refused_unread(api: Api, dataset: Dataset) -> None:
    """If a connection is lost, the server passes on what has arrived as if it were the whole body."""
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "HTTP_EXPECT": "100-continue"}
    for path in ("/batch", "/validate"):
        for encoding in ("", "identity", "gzip", "deflate", "zstd"):
            answer = sent(api, Unread(), path, NDJSON, encoding, **chunked)
            assert (answer.status, answer.json()["error"]) == (411, "Length required")
            assert (
                "Send the body with a Content-Length, or send the records as a JSON array." in answer.json()["detail"]
            )
    assert in_stream(dataset) == 0


@both_encodings
def test_no_part_of_a_json_array_is_a_shorter_array(api: Api, dataset: Dataset, encoding: str) -> None:
    """Even without a length and in several members or frames, a JSON document proves that it is complete."""
    compress = COMPRESS[encoding]
    whole = b" [%b ,\n%b]" % (TEXT, TEXT)
    pieces = [compress(whole[at : at + 5]) for at in range(0, len(whole), 5)]
    for count in range(len(pieces)):
        answer = sent(api, io.BytesIO(b"".join(pieces[:count])), "/batch", JSON, encoding)
        assert (answer.status, answer.json()["error"]) == (400, "Invalid JSON body"), count
    assert in_stream(dataset) == 0
    assert sent(api, io.BytesIO(b"".join(pieces)), "/batch", JSON, encoding).status == 202


def test_lines_that_do_not_come_at_all_are_not_json(api: Api) -> None:
    """A request with neither a length nor chunks has no body."""
    host = {"HTTP_HOST": "localhost"}
    for path in ("/batch", "/validate"):
        for protocol in ("HTTP/1.0", "HTTP/1.1"):
            answer = sent(api, b"", path, NDJSON, length="", SERVER_PROTOCOL=protocol, **host)
            assert (answer.status, told(answer)) == (400, INVALID)
        chunks = {**host, "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_TRANSFER_ENCODING": "chunked"}
        assert sent(api, b"", path, NDJSON, length="", **chunks).status == 411


def test_a_body_shorter_than_it_announced_is_refused(api: Api, dataset: Dataset) -> None:
    """The client has gone between two lines, so what has arrived is valid NDJSON."""
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


# -- what is not JSON ---------------------------------------------------------------------------------


def with_context(text: bytes) -> bytes:
    return TEXT.replace(json.dumps(record()["context"]).encode(), text)


def with_country(text: bytes) -> bytes:
    return TEXT.replace(b'"country": "RO"', b'"country": ' + text)


NOT_JSON = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "a word": b"hello",
    "cut short": TEXT[:-1],
    "one brace too many": TEXT + b"}",
    "two records": TEXT + TEXT,
    "a comma at the end": TEXT[:-1] + b",}",
    "no quotes": b"{timestamp: 1}",
    "single quotes": TEXT.replace(b'"', b"'"),
    "a comment": b"/* */" + TEXT,
    "a byte order mark": b"\xef\xbb\xbf" + TEXT,
    "UTF-16": TEXT.decode().encode("utf-16"),
    "UTF-32": TEXT.decode().encode("utf-32"),
    "a form feed": b"\x0c" + TEXT,
    "a NUL at the end": TEXT + b"\0",
    "NaN": with_country(b"NaN"),
    "NaN in context": with_context(b'{"a":NaN}'),
    "Infinity": with_country(b"Infinity"),
    "-Infinity in context": with_context(b'{"a":[-Infinity]}'),
    "True": with_country(b"True"),
    "a leading zero": with_country(b"01"),
    "a leading zero in context": with_context(b'{"a":-01}'),
    "a leading plus": with_country(b"+1"),
    "a point at the end": with_context(b'{"a":1.}'),
    "a hexadecimal number": with_country(b"0x10"),
    "invalid UTF-8": with_country(b'"\xff"'),
    "invalid UTF-8 in context": with_context(b'{"a":"\xff"}'),
    "invalid UTF-8 in a key of context": with_context(b'{"\xff":1}'),
    "invalid UTF-8 in a name": TEXT.replace(b'"country"', b'"c\xff"'),
    "overlong UTF-8": with_country(b'"\xc0\x80"'),
    "a surrogate in UTF-8": with_context(b'{"a":"\xed\xa0\x80"}'),
    "Latin-10": with_country('"Iași"'.encode("iso8859-16")),
    "a lone surrogate": with_country(rb'"\ud800"'),
    "a lone surrogate in context": with_context(rb'{"a":"\ud800"}'),
    "a lone surrogate in a key of context": with_context(rb'{"\udc00":1}'),
    "a lone surrogate in a name": TEXT.replace(b'"country"', rb'"\ud800"'),
    "surrogates the wrong way round": with_country(rb'"\udc00\ud800"'),
    "an unknown escape": with_context(rb'{"a":"\q"}'),
    "an escape cut short": with_context(rb'{"a":"\u12"}'),
    "a control character": with_country(b'"\x01"'),
    "a tab in context": with_context(b'{"a":"\t"}'),
    "a line break in context": with_context(b'{"a":"\n"}'),
}


@pytest.mark.parametrize("path", ["", "/batch", "/validate"])
def test_what_is_not_json_is_refused(api: Api, dataset: Dataset, path: str) -> None:
    """Test a small body, and one that is large enough for the other way of validation."""
    before, after = (b"[", b"]") if path == "/batch" else (b"", b"")
    for name, body in NOT_JSON.items():
        for padding in (b"", b" " * 10_000):
            text = body if name in ("empty", "blank") else before + body + after
            answer = sent(api, text[:1] + padding + text[1:], path)
            if name == "two records" and path == "/batch":
                text = b"[%b %b]" % (TEXT, TEXT)
            assert (answer.status, told(answer)) == (400, INVALID), (name, len(padding))
    assert in_stream(dataset) == 0


def test_what_is_unusual_and_json_is_taken_as_it_stands(api: Api, dataset: Dataset) -> None:
    contexts = [
        rb'{"a":"\ud83d\ude00"}',
        '{"a":"😀 Brașov \u2028"}'.encode(),
        rb'{"a":"\u0000\/\b\f"}',
        b'{"a":1e999,"b":-0,"c":123456789012345678901234567890}',
        b'{"a":1,"a":2}',
        b'{"":{"":[[],{}]}}',
        b" { } ",
    ]
    for context in contexts:
        assert sent(api, b" \r\n\t" + with_context(context) + b"\n\n").status == 202, context
    assert [row["context"].strip() for row in stored(dataset)] == [context.decode().strip() for context in contexts]


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + closing * depth


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_nesting_too_deep_to_parse_is_not_json(api: Api, dataset: Dataset, depth: int) -> None:
    for deep in (
        nested(depth),
        nested(depth, b'{"a":', b"}").replace(b":}", b":1}", 1),
        with_context(b'{"a":%b}' % nested(depth)),
        with_country(nested(depth)),
        b'{"extra":%b}' % nested(depth),
        b"[" * depth,
    ):
        for path in ("", "/validate"):
            answer = sent(api, deep, path)
            assert (answer.status, told(answer)) == (400, INVALID), (path, deep[:30])
        answer = sent(api, b"[%b]" % deep, "/batch")
        assert (answer.status, told(answer)) == (400, INVALID), deep[:30]
        answer = sent(api, LINES[0] + deep, "/batch", NDJSON)
        assert (answer.status, told(answer, "index")) == (400, {**INVALID, "index": 1}), deep[:30]
    assert in_stream(dataset) == 0


def test_every_depth_gets_a_202_or_a_400(api: Api) -> None:
    """Near the depth limit, every way through the validation must give the same answer."""
    last = 0
    for depth in [*range(1, 100, 33), *range(800, 1010)]:
        good = with_context(b'{"a":%b}' % nested(depth))
        baited = good.replace(b'"RO"', b'"2-12 10:30"')  # looks like a lax time stamp: read a second time
        bad = good.replace(b'"plan"', b'"plane"')
        for body, path, content_type in (
            (good, "", JSON),
            (baited, "", JSON),
            (b"[%b]" % baited, "/batch", JSON),
            (baited, "/batch", NDJSON),
        ):
            answer = sent(api, body, path, content_type)
            assert answer.status in (202, 400), (depth, path, answer.body)
            last = depth if answer.status == 202 else last
            assert answer.status == 202 or answer.json()["error"] == "Invalid JSON body"
        answer = sent(api, bad)
        assert answer.json()["error"] in ("Extra field: plane", "Invalid JSON body"), (depth, answer.body)
    assert 500 < last < 1000, "the range above has missed the depth at which parsing fails"
    redis.client().flushall()


# -- NDJSON -------------------------------------------------------------------------------------------


def test_lines_are_records_and_blank_lines_are_nothing(api: Api, dataset: Dataset) -> None:
    lines = [line.strip() for line in LINES]
    for separator in (b"\n", b"\r\n", b"\n\n\n", b"\n \t\r\n"):
        for body in (separator.join(lines), separator.join([b"", *lines, b""])):
            answer = sent(api, body, "/batch", NDJSON)
            assert (answer.status, answer.json()["count"]) == (202, 3)
    assert [row["country"] for row in stored(dataset)] == ["RO", "US", "DE"] * 8


def test_no_lines_are_not_json(api: Api) -> None:
    for body in (b"", b"\n", b" \r\n\t\n"):
        answer = sent(api, body, "/batch", NDJSON)
        assert (answer.status, told(answer)) == (400, INVALID)


def test_a_line_that_is_not_json_is_named_by_its_index(api: Api, dataset: Dataset) -> None:
    for line in (
        TEXT + TEXT,
        TEXT + b"," + TEXT,
        TEXT + b",",
        TEXT[:-1],
        b"nonsense",
        with_context(b'{"a":"\xff"}'),
        b"\xef\xbb\xbf" + TEXT,
        with_country(b'"\r"'),
    ):
        for padding in (b"", b" " * 10_000):
            answer = sent(api, LINES[0] + b"\n" + padding + LINES[1] + line + b"\n" + LINES[2], "/batch", NDJSON)
            assert (answer.status, told(answer, "index")) == (400, {**INVALID, "index": 2}), line
    assert in_stream(dataset) == 0


def test_a_record_over_two_lines_is_two_lines(api: Api) -> None:
    answer = sent(api, json.dumps(record(), indent=1).encode(), "/batch", NDJSON)
    assert (answer.status, told(answer, "index")) == (400, {**INVALID, "index": 0})


def test_a_line_may_break_where_json_allows_a_carriage_return(api: Api, dataset: Dataset) -> None:
    assert sent(api, TEXT.replace(b", ", b",\r"), "/batch", NDJSON).status == 202
    assert len(stored(dataset)) == 1
