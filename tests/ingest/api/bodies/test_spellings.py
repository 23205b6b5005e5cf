"""Media types, charsets and content encodings in the spellings of real clients. Each spelling has one meaning."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
import zstandard

from datasets.models import Dataset
from tests.conftest import Api, record, stored
from tests.ingest.api.bodies.sending import JSON, LINES, NDJSON, TEXT, sent

AS_NDJSON = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-lines",
    "application/x-json-stream",
    "Application/NDJSON; charset=utf8",
    'application/jsonl; profile="x"; charset=UTF-8',
    "application/json-lines;q=1",
)
AS_JSON = ("application/json", "text/json", "TEXT/JSON; charset=UTF8", "application/json; charset=utf8")


def raw_deflate(data: bytes) -> bytes:
    """Compress without the zlib header, as some clients do for `deflate`."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


COMPRESS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "x-gzip": ("x-gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "zlib, fastest": ("deflate", lambda data: zlib.compress(data, 1)),
    "raw deflate": ("deflate", raw_deflate),
}


def test_json_and_ndjson_are_accepted_under_every_name(api: Api, dataset: Dataset) -> None:
    for content_type in AS_NDJSON:
        assert sent(api, b"".join(LINES), "/batch", content_type).json()["count"] == 3, content_type
        assert sent(api, b"".join(LINES), "/validate", content_type).json() == {"valid": True, "count": 3}
        assert sent(api, TEXT, "", content_type).status == 415
    for content_type in AS_JSON:
        assert sent(api, TEXT, "", content_type).status == 202, content_type
        assert sent(api, b"[%b]" % TEXT, "/batch", content_type).status == 202, content_type
    assert len(stored(dataset)) == 3 * len(AS_NDJSON) + 2 * len(AS_JSON)


@pytest.mark.parametrize(("encoding", "compress"), COMPRESS.values(), ids=COMPRESS)
def test_a_compressed_body_is_stored_like_the_plain_body(
    api: Api, dataset: Dataset, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    for country in ("RO", "ș" * 5000, *(f"C{n}" for n in range(50))):  # bodies that begin with many different bytes
        body = compress(json.dumps(record(country=country)).encode())
        assert sent(api, body, encoding=encoding).status == 202
    assert sent(api, compress(b"".join(LINES)), "/batch", NDJSON, encoding.upper()).status == 202
    assert [row["country"] for row in stored(dataset)][-3:] == ["RO", "US", "DE"]


@pytest.mark.parametrize(("encoding", "compress"), COMPRESS.values(), ids=COMPRESS)
def test_a_body_that_is_cut_or_followed_by_other_data_is_refused(
    api: Api, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    whole = compress(TEXT)
    for cut in range(1, len(whole)):
        assert sent(api, whole[:cut], encoding=encoding).json()["error"] == "Invalid JSON body", cut
    for more in (b"x", b"\0x", b"\0" * 50 + b"x", whole):
        assert sent(api, whole + more, encoding=encoding).json()["error"] == "Invalid JSON body", more


def test_zeros_after_gzip_data_are_ignored_as_gzip_does(api: Api, dataset: Dataset) -> None:
    for members in ([TEXT], [TEXT[:20], TEXT[20:]]):
        for zeros in (1, 8, 512, 100_000):
            body = b"".join(map(gzip.compress, members)) + bytes(zeros)
            assert sent(api, body, encoding="gzip").status == 202, zeros
    assert len(stored(dataset)) == 8
    assert sent(api, zlib.compress(TEXT) + b"\0", encoding="deflate").status == 400


def test_a_retry_may_spell_its_headers_in_another_way(api: Api, dataset: Dataset) -> None:
    body = b"".join(LINES)
    first = api.batch(body, Idempotency_Key="k", Content_Type=NDJSON)
    for content_type in AS_NDJSON:
        for encoding, data in (
            ("identity", body),
            ("gzip", gzip.compress(body)),
            ("x-gzip", gzip.compress(body) + b"\0"),
            ("deflate", raw_deflate(body)),
            ("zstd", zstandard.compress(body)),
        ):
            again = api.batch(data, Idempotency_Key="k", Content_Type=content_type, Content_Encoding=encoding)
            assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
            assert again.headers["Idempotent-Replayed"] == "true"
    assert len(stored(dataset)) == 3


# -- what a 415 and a damaged body say ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "path", "said"),
    [
        (
            "",
            "/batch",
            ("no Content-Type header", "“Content-Type: application/json”", "“Content-Type: application/x-ndjson”"),
        ),
        ("application/x-www-form-urlencoded", "", ("not supported", "“Content-Type: application/json”")),
        ("application/json; charset=latin-1", "", ("UTF-8", "“Content-Type: application/json”")),
        ("application/jsonl; charset=utf-16", "/batch", ("UTF-8", "“Content-Type: application/x-ndjson”")),
        ("application/jsonl", "", ("“Content-Type: application/json”", "/batch")),
    ],
)
def test_a_415_names_the_header_to_send(api: Api, content_type: str, path: str, said: tuple[str, ...]) -> None:
    answer = sent(api, TEXT, path, content_type)
    assert answer.status == 415
    for words in said:
        assert words in answer.json()["detail"]


def test_a_415_names_the_encodings_to_choose_from(api: Api) -> None:
    answer = sent(api, TEXT, encoding="br")
    assert answer.status == 415
    assert "with gzip, deflate or zstd" in answer.json()["detail"]


def window(log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=log, compression_level=1, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(TEXT) + compressor.flush()


def damaged(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at:][1:]


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("gzip", TEXT, "The body is not valid gzip: incorrect header check."),
        ("zstd", TEXT, "The body is not valid zstd: unknown frame descriptor."),
        ("gzip", damaged(gzip.compress(TEXT), -6), "The body is not valid gzip: incorrect data check."),
        ("deflate", damaged(zlib.compress(TEXT), -1), "The body is not valid deflate: incorrect data check."),
        ("gzip", gzip.compress(TEXT)[:-1], "The gzip body is cut short."),
        ("deflate", raw_deflate(TEXT)[:-1], "The deflate body is cut short."),
        ("zstd", zstandard.compress(TEXT)[:-1], "The zstd body is cut short."),
        ("zstd", window(27), "The zstd window of 128 MiB is too large. Compress with a window of at most 8 MiB."),
    ],
)
def test_compressed_data_that_cannot_be_read_says_why(api: Api, encoding: str, body: bytes, said: str) -> None:
    assert sent(api, body, "", JSON, encoding).json()["detail"] == said


def test_the_largest_allowed_window_is_accepted(api: Api) -> None:
    assert sent(api, window(23), encoding="zstd").status == 202
