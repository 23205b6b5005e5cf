"""Read the body of a request: media type, size, content encoding."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import zstandard
from django.conf import settings
from django.utils.http import parse_header_parameters

from config.common.errors import BodyTooLarge, InvalidJson, UnsupportedEncoding, UnsupportedMediaType
from config.common.threads import LARGE
from ingest.errors import BodyTooSlow
from ingest.validation.room import Hold

Receive = Callable[[], Awaitable[Mapping[str, Any]]]  # the type of ASGI's `receive`

JSON, NDJSON = "application/json", "application/x-ndjson"
# Every media type that is accepted, as real clients spell it -> our name for it.
MEDIA_TYPES = {
    "application/json": JSON,
    "text/json": JSON,
    "application/x-ndjson": NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
    "application/json-lines": NDJSON,
    "application/x-json-stream": NDJSON,
}
# Every content encoding that is accepted -> our name for it.
ENCODINGS = {"identity": "identity", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "zstd": "zstd"}
_CHARSETS = ("utf-8", "utf8")
# The member `expected` of a 415 answer. It lists every spelling of the accepted media types.
EXPECTED = "{}, or on a batch {}; charset utf-8 or none".format(
    *(" or ".join(spelling for spelling, ours in MEDIA_TYPES.items() if ours == kind) for kind in (JSON, NDJSON))
)
# A body of up to this size does not count against BODY_MEMORY_BYTES, unless it arrives in pieces, or is compressed to
# more than _SMALL_COMPRESSED_BYTES.
_SMALL_BYTES = 64 * 1024
# After a piece smaller than this, the process pauses: for half of the time that the body has taken so far, and for at
# most 5 seconds. Meanwhile the kernel collects what the client sends, so a slow body needs few reads. A chunked body
# has no pauses: the server passes on each chunk separately, so the pauses of many small chunks would add up.
_SLOW_PIECE_BYTES = 1024
_PAUSE_SHARE = 0.5
_MAX_PAUSE_SECONDS = 5.0
# A compressed body of up to this size is decompressed immediately if the result has at most _SMALL_BYTES. A thread
# decompresses other bodies.
_SMALL_COMPRESSED_BYTES = 4096
# After each slice of this number of compressed bytes, the size of the result is checked. A slice becomes at most 8 MiB,
# because 4 bytes of zstd can hold a block of 128 KiB.
_SLICE = 256
# Longer Content-Type headers are refused, because the cache below keeps each header.
_MAX_MEDIA_TYPE_CHARACTERS = 200
# A sender decides how much memory its zstd window takes. The format recommends that every decoder supports 8 MiB.
_MAX_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
_MAX_ZSTD_HEADER_BYTES = 18
_SILENCE = "the sender is silent"  # why a read was canceled


@lru_cache(maxsize=256)
def media_type(header: str) -> str:
    """Return JSON or NDJSON for a Content-Type header. Raise UnsupportedMediaType for anything else."""
    try:
        name, parameters = parse_header_parameters(header if len(header) <= _MAX_MEDIA_TYPE_CHARACTERS else "")
    except ValueError:  # a parameter in an encoding that does not exist
        name, parameters = "", {}
    known = MEDIA_TYPES.get(name)
    if known is None or parameters.get("charset", "utf-8").lower() not in _CHARSETS:
        raise UnsupportedMediaType({"expected": EXPECTED, "received": header[:200], "detail": _advice(header, known)})
    return known


def _advice(header: str, known: str | None) -> str:
    """Say which Content-Type header to send instead."""
    if known:
        return f"Send the body in UTF-8, with the header “Content-Type: {known}”."
    problem = "This media type is not supported" if header else "The request has no Content-Type header"
    return f"{problem}. Send “Content-Type: {JSON}”, or for NDJSON on a batch “Content-Type: {NDJSON}”."


async def read_body(request: Any, hold: Hold) -> bytes:
    """Return the request's body, decompressed. Stop soon after it has more than MAX_BODY_BYTES.

    Raise BodyTooLarge, BodyTooSlow, QueueUnavailable or UnsupportedEncoding. Raise InvalidJson if the body ends early
    or its compressed data is damaged.
    """
    meta = request.META
    limit: int = settings.MAX_BODY_BYTES
    encoding = _encoding(meta.get("HTTP_CONTENT_ENCODING", ""))
    announced = meta.get("CONTENT_LENGTH") or ""
    size = int(announced) if announced.isdecimal() else None
    if size is not None and size > limit:
        raise BodyTooLarge({"limit": limit})
    body = b"" if size == 0 else await arrive(request.receive, size, limit, hold)
    request.body_was_read = True
    if encoding == "identity":
        return body
    if len(body) <= _SMALL_COMPRESSED_BYTES:
        try:
            return _decompress(encoding, body, min(limit, _SMALL_BYTES))
        except BodyTooLarge:
            pass
    await hold.at_least(len(body) + limit)  # the decompressed size is not known yet
    decompressed = await LARGE.run_for(hold.who, _decompress, encoding, body, limit)
    hold.shrink(len(decompressed))
    return decompressed


async def arrive(receive: Receive, size: int | None, limit: int, hold: Hold) -> bytes:
    """Return a body as it was sent: `size` bytes or, if `size` is None, all bytes up to the last chunk.

    Most bodies arrive in one piece. If a body is large or has several pieces, wait until the memory has room for it.
    Raise BodyTooLarge, BodyTooSlow or QueueUnavailable, or InvalidJson if the connection is lost.
    """
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    if len(body) == size:
        if size > _SMALL_BYTES:
            await hold.at_least(size)
        return body
    whole = bytearray(body)  # a list of pieces would take 40 bytes for each, even if they are tiny
    clock = asyncio.get_running_loop().time
    began = clock()
    while len(whole) != size and message.get("more_body", False):
        await hold.at_least(size or min(limit, max(_SMALL_BYTES, 2 * len(whole))))
        if size is not None and len(body) < _SLOW_PIECE_BYTES:
            await asyncio.sleep(min(_MAX_PAUSE_SECONDS, _PAUSE_SHARE * (clock() - began)))
        message = await _next(receive)
        body = message.get("body", b"")
        whole += body
        if len(whole) > limit:
            raise BodyTooLarge({"limit": limit})
    if size is not None and len(whole) < size:
        raise InvalidJson({"detail": "The body is shorter than its Content-Length."})
    if message["type"] == "http.disconnect":
        raise InvalidJson({"detail": "The connection was lost before the end of the body."})
    return bytes(whole)


async def _next(receive: Receive) -> Mapping[str, Any]:
    """Return the next piece of a body. Raise BodyTooSlow if the sender is silent for BODY_SILENCE_SECONDS."""
    # `asyncio.timeout` would do the same, but it takes 4 microseconds more.
    task: Any = asyncio.current_task()
    seconds: float = settings.BODY_SILENCE_SECONDS
    timer = asyncio.get_running_loop().call_later(seconds, task.cancel, _SILENCE)
    try:
        return await receive()
    except asyncio.CancelledError as canceled:
        if canceled.args != (_SILENCE,):
            raise
        task.uncancel()
        raise BodyTooSlow({"detail": f"Nothing of the body came for {seconds:g} seconds."}) from None
    finally:
        timer.cancel()


def _encoding(header: str) -> str:
    """Return our name for a Content-Encoding. Raise UnsupportedEncoding if it is not in ENCODINGS."""
    known = ENCODINGS.get(header.strip().lower() or "identity")
    if known is None:
        detail = "Compress the body once, with gzip, deflate or zstd, or send it without a Content-Encoding header."
        received = header[:200]
        raise UnsupportedEncoding(
            {"expected": "identity, gzip, deflate or zstd", "received": received, "detail": detail}
        )
    return known


def _decompress(encoding: str, data: bytes, limit: int) -> bytes:
    """Decompress all gzip members or zstd frames of a body, or its one deflate stream.

    Raise BodyTooLarge if the result is larger than `limit`, and InvalidJson if the data is damaged or incomplete.
    """
    new_member = _decompressor(encoding, data)
    out = bytearray()
    at = 0
    while at < len(data):
        member, start = new_member(), at
        while not member.eof:
            piece = data[at : at + _SLICE]
            if not piece:
                raise InvalidJson({"detail": f"The {encoding} body is cut short."})
            at += len(piece)
            try:
                out += member.decompress(piece)
            except (zlib.error, zstandard.ZstdError) as failure:
                raise InvalidJson(
                    {"detail": _damage(encoding, data[start : start + _MAX_ZSTD_HEADER_BYTES], failure)}
                ) from None
            if len(out) > limit:
                raise BodyTooLarge({"limit": limit})
        at -= len(member.unused_data)
        if encoding == "gzip" and data.startswith(b"\0", at):
            return _without_padding(bytes(out), data, at)
        if encoding == "deflate" and at < len(data):
            raise InvalidJson({"detail": "The body has more data after the end of its deflate stream."})
    return bytes(out)


def _without_padding(out: bytes, data: bytes, at: int) -> bytes:
    """Return `out` if only zeros follow the gzip data. Tapes and block devices add zeros, and gzip(1) ignores them."""
    if data.count(0, at) < len(data) - at:
        raise InvalidJson({"detail": "The body has other bytes than zeros after the end of its gzip data."})
    return out


def _damage(encoding: str, header: bytes, failure: Exception) -> str:
    """Return why the compressed data that begins with this header cannot be decompressed."""
    if encoding == "zstd":
        try:
            window = zstandard.get_frame_parameters(header).window_size
        except zstandard.ZstdError:
            window = 0
        if window > _MAX_ZSTD_WINDOW_BYTES:
            most = f"{_MAX_ZSTD_WINDOW_BYTES // 1024**2} MiB"
            return f"The zstd window of {window // 1024**2} MiB is too large. Compress with a window of at most {most}."
    reason = str(failure).rpartition(": ")[2]
    return f"The body is not valid {encoding}: {reason[:1].lower()}{reason[1:100]}."


def _decompressor(encoding: str, data: bytes) -> Callable[[], Any]:
    """Return a function that makes a decompressor. Each member or frame of a body needs a new one."""
    if encoding == "zstd":
        return zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW_BYTES).decompressobj
    if encoding == "gzip":
        return partial(zlib.decompressobj, wbits=16 + zlib.MAX_WBITS)
    # "deflate" means the zlib format (RFC 9110, 8.4.1.2), but some clients send the bare stream. Only the zlib format
    # begins with a header like this one (RFC 1950, 2.2).
    is_zlib = data[:1] and data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
    return partial(zlib.decompressobj, wbits=zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
