"""From the wire to a body: media type, size, content encoding."""

import io
import zlib
from functools import lru_cache
from typing import IO, Any

import zstandard
from django.conf import settings
from django.http import HttpRequest
from django.utils.http import parse_header_parameters

from ingest.errors import BodyTooLarge, InvalidJson, UnsupportedEncoding, UnsupportedMediaType

JSON, NDJSON = "application/json", "application/x-ndjson"
_CHUNK = 64 * 1024
# zstd's window is memory that a sender makes us take; 8 MiB is what the format asks every decoder to support.
_ZSTD_WINDOW = 8 * 1024 * 1024


@lru_cache(maxsize=256)
def media_type(header: str) -> str:
    """The media type of a Content-Type header, if its charset is UTF-8 or not given. Raises UnsupportedMediaType."""
    name, parameters = parse_header_parameters(header)
    if name not in (JSON, NDJSON) or parameters.get("charset", "utf-8").lower() != "utf-8":
        expected = f"{JSON}, or on a batch {NDJSON}; charset utf-8 or none"
        raise UnsupportedMediaType({"expected": expected, "received": header[:200]})
    return name


def read_body(request: HttpRequest) -> bytes:
    """The request's body, decompressed. No more than the limit is ever held.

    Raises BodyTooLarge, UnsupportedEncoding; InvalidJson where the compressed data is damaged.
    """
    meta = request.META
    limit: int = settings.MAX_BODY_BYTES
    encoding = meta.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "zstd"):
        raise UnsupportedEncoding({"expected": "identity, gzip or zstd", "received": encoding})
    announced = meta.get("CONTENT_LENGTH") or ""
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge({"limit": limit})
    # Django's own stream reads nothing of a chunked body, which announces no length.
    stream: IO[bytes] = meta["wsgi.input"]
    size = int(announced) if announced.isdecimal() else limit + 1
    if encoding == "gzip":
        return _gunzip(_read_up_to(stream, size, limit), limit)
    if encoding == "zstd":
        return _unzstd(_read_up_to(stream, size, limit), limit)
    return _read_up_to(stream, size, limit)


def _read_up_to(stream: IO[bytes], size: int, limit: int) -> bytes:
    body = stream.read(size) if size else b""
    while 0 < len(body) < size:
        more = stream.read(size - len(body))
        if not more:
            break
        body += more
    if len(body) > limit:
        raise BodyTooLarge({"limit": limit})
    return body


def _gunzip(data: bytes, limit: int) -> bytes:
    """All members of a gzip stream; stops at the limit."""
    out = bytearray()
    while True:
        member = zlib.decompressobj(wbits=31)
        try:
            out += member.decompress(data, limit + 1 - len(out))
        except zlib.error:
            raise InvalidJson({"detail": "The body is not valid gzip."}) from None
        if len(out) > limit:
            raise BodyTooLarge({"limit": limit})
        if not member.eof:
            raise InvalidJson({"detail": "The gzip body is cut short."})
        data = member.unused_data
        if not data:
            return bytes(out)


def _unzstd(data: bytes, limit: int) -> bytes:
    """All frames of a zstd stream; stops at the limit."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    reader: Any = decompressor.stream_reader(io.BytesIO(data), read_across_frames=True)
    out = bytearray()
    try:
        while chunk := reader.read(_CHUNK):
            out += chunk
            if len(out) > limit:
                raise BodyTooLarge({"limit": limit})
    except zstandard.ZstdError:
        raise InvalidJson({"detail": "The body is not valid zstd."}) from None
    return bytes(out)
