"""From the wire to a body: media type, size, content encoding."""

import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import zstandard
from django.conf import settings
from django.http import HttpRequest
from django.utils.http import parse_header_parameters

from config import arrival
from config.middleware import BODY_WAS_READ
from ingest.errors import BodyTooLarge, InvalidJson, LengthRequired, UnsupportedEncoding, UnsupportedMediaType

JSON, NDJSON = "application/json", "application/x-ndjson"
# Compressed data is taken so many bytes at a time. What comes of them before the limit is looked at again is at most
# 8 MiB: 4 bytes of zstd can be a block of 128 KiB.
_SLICE = 256
# What is taken is remembered, so it must not be long.
_LONGEST_MEDIA_TYPE = 200
# zstd's window is memory that a sender makes us take; 8 MiB is what the format asks every decoder to support.
_ZSTD_WINDOW = 8 * 1024 * 1024


@lru_cache(maxsize=256)
def media_type(header: str) -> str:
    """The media type of a Content-Type header, if its charset is UTF-8 or not given. Raises UnsupportedMediaType."""
    try:
        name, parameters = parse_header_parameters(header if len(header) <= _LONGEST_MEDIA_TYPE else "")
    except ValueError:  # a parameter in an encoding that does not exist
        name, parameters = "", {}
    if name not in (JSON, NDJSON) or parameters.get("charset", "utf-8").lower() != "utf-8":
        expected = f"{JSON}, or on a batch {NDJSON}; charset utf-8 or none"
        raise UnsupportedMediaType({"expected": expected, "received": header[:200]})
    return name


def read_body(request: HttpRequest, *, project_id: int) -> bytes:
    """The request's body, decompressed. No more than the limit is ever held.

    Raises BodyTooLarge, BodyTooSlow, LengthRequired, UnsupportedEncoding; InvalidJson where the body is cut short or
    the compressed data damaged.
    """
    meta = request.META
    limit: int = settings.MAX_BODY_BYTES
    encoding = meta.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "zstd"):
        raise UnsupportedEncoding({"expected": "identity, gzip or zstd", "received": encoding})
    announced = meta.get("CONTENT_LENGTH") or ""
    plain = encoding in ("", "identity")
    if not announced and plain and media_type(meta.get("CONTENT_TYPE", "")) == NDJSON and _comes_in_pieces(meta):
        # JSON and compressed data say where they end. Lines do not, and the server lets a chunked body whose connection
        # is lost look like one that is complete: what came until then would be taken for the batch.
        raise LengthRequired({"detail": "Lines in chunks must be compressed: nothing else says where they end."})
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge({"limit": limit})
    # Django's own stream reads nothing of a chunked body, which announces no length.
    size = int(announced) if announced.isdecimal() else limit + 1
    body = _read_up_to(lambda most: arrival.read(meta["wsgi.input"], most, who=project_id), size, limit)
    meta[BODY_WAS_READ] = True
    if announced.isdecimal() and len(body) < size:
        raise InvalidJson({"detail": "The body is shorter than its Content-Length."})
    return _decompress(encoding, body, limit) if encoding in ("gzip", "zstd") else body


def _comes_in_pieces(meta: Mapping[str, Any]) -> bool:
    """Of a request without Content-Length: whether a body may come. HTTP/2 sends any in pieces, and does not say so."""
    return "HTTP_TRANSFER_ENCODING" in meta or not meta.get("SERVER_PROTOCOL", "").startswith("HTTP/1")


def _read_up_to(read: Callable[[int], bytes], size: int, limit: int) -> bytes:
    body = read(size) if size else b""
    while 0 < len(body) < size:
        more = read(size - len(body))
        if not more:
            break
        body += more
    if len(body) > limit:
        raise BodyTooLarge({"limit": limit})
    return body


def _decompress(encoding: str, data: bytes, limit: int) -> bytes:
    """All members (gzip) or frames (zstd) of a compressed body, each of them whole; stops at the limit."""
    new_member = _decompressor(encoding)
    out = bytearray()
    at = 0
    while at < len(data):
        member = new_member()
        while not member.eof:
            piece = data[at : at + _SLICE]
            if not piece:
                raise InvalidJson({"detail": f"The {encoding} body is cut short."})
            at += len(piece)
            try:
                out += member.decompress(piece)
            except (zlib.error, zstandard.ZstdError):
                raise InvalidJson({"detail": f"The body is not valid {encoding}."}) from None
            if len(out) > limit:
                raise BodyTooLarge({"limit": limit})
        at -= len(member.unused_data)
    return bytes(out)


def _decompressor(encoding: str) -> Callable[[], Any]:
    """What makes a decompressor for each member or frame."""
    if encoding == "gzip":
        return partial(zlib.decompressobj, wbits=31)
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj
