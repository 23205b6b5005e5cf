"""Media types and compression of bodies."""

import json
import zlib

import zstandard

from datasets.models import Dataset
from ingest.validation.body import EXPECTED, MEDIA_TYPES
from tests.conftest import Api, record, stored
from tests.ingest.api.bodies.sending import COMPRESS, JSON, LINES, NDJSON, TEXT, both_encodings, sent, zstd

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
                "expected": EXPECTED,
                "received": content_type,
            }


def test_a_415_names_every_spelling() -> None:
    for spelling in MEDIA_TYPES:
        assert spelling in EXPECTED


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
def test_a_compressed_body_is_stored_like_the_plain_body(api: Api, dataset: Dataset, encoding: str) -> None:
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
    """A batch is all or nothing. So if a body is cut between lines, it is refused, although its lines are valid."""
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
