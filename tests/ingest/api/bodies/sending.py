"""Bodies of every kind, and a function that sends them in the form in which the web server passes them on."""

import gzip
import io
import json
import zlib

import pytest
import zstandard

from tests.conftest import Api, record
from tests.support.sending.wire import Answer, call

JSON, NDJSON = "application/json", "application/x-ndjson"
TEXT = json.dumps(record()).encode()
LINES = [json.dumps(record(country=country)).encode() + b"\n" for country in ("RO", "US", "DE")]
INVALID = {"error": "Invalid JSON body", "code": "invalid_json"}
GIBIBYTE = 1024**3


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


COMPRESS = {"gzip": gzip.compress, "zstd": zstd}
both_encodings = pytest.mark.parametrize("encoding", COMPRESS)


def told(answer: Answer, *details: str) -> dict[str, object]:
    """Return the error, its code and the details with these names. test_details.py checks the other details."""
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
    """POST to the dataset in the form of the web server. If `data` is a stream or `length` is "", `data` is chunked."""
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


def gzip_bomb() -> bytes:
    """Return 1 GiB of zeros, compressed. After a full flush, a compressor writes the same bytes for the same data."""
    compressor = zlib.compressobj(wbits=31)
    start = compressor.compress(b"") + compressor.flush(zlib.Z_FULL_FLUSH)
    mebibyte = compressor.compress(bytes(1024**2)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return start + mebibyte * 1024 + compressor.flush()


def zstd_bomb() -> bytes:
    """Return 1 GiB of zeros, in blocks of 128 KiB that repeat one byte (RFC 8878, 3.1.1.2.2)."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, (23 - 10) << 3])
    block = ((128 * 1024) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return frame + block * (GIBIBYTE // (128 * 1024))
