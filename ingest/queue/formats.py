"""Bodies as the queue holds them: one JSON object, a JSON array, or lines of NDJSON; large ones compressed."""

import re
from collections.abc import Iterator
from itertools import islice

import lz4.block
import stringzilla
from msgspec import Struct

# Formats of a body, as the queue notes them.
OBJECT, ARRAY, LINES = b"o", b"a", b"l"
# Splitting makes an object of each line, also of blank ones: more lines are looked at one by one.
_MANY_LINES = 100_000
_lines_with_text = re.compile(rb"[^ \t\r\n][^\n]*").finditer
# A body of so many bytes is queued compressed: JSON shrinks to a quarter, and Redis, which has one thread, must read,
# copy, log, sync and hold only what is left.
_COMPRESS_BYTES = 8192
# What shrinks to less than this share is hardly data, and is queued as it is: else ten megabytes of spaces would be
# queued as 41 KB, and the limit of a backlog would not limit what a worker has to read.
_MAX_COMPRESSION_RATIO = 32
_COMPRESSED = b"\0"  # before an LZ4 block, which begins with its size; no JSON text begins so


class Rejected(Struct, frozen=True):
    """The records of a lenient batch that are not taken."""

    count: int
    answer: bytes  # what the 202 says of them: members of its JSON object
    # The first problem of each record, and the record's text; only as many as an answer may list.
    first: list[tuple[dict[str, object], bytes]]


class Payload(Struct, frozen=True):
    """A valid body, ready to be queued."""

    body: bytes
    format: bytes
    count: int
    rejected: Rejected | None = None  # None unless the client asked for lenient handling


def lines_of(body: bytes, most: int | None = None) -> list[bytes]:
    """Return the lines of NDJSON that hold more than JSON's white space; of very many, only the first `most`."""
    if stringzilla.count(body, b"\n") < _MANY_LINES:
        return [line for line in body.split(b"\n") if line.strip(b" \t\r")]
    return [line.group() for line in islice(_lines_with_text(body), most)]


def starts_of_lines(body: bytes) -> Iterator[int]:
    """Yield where each line of NDJSON begins that holds more than white space; white space before it is left out."""
    return (line.start() for line in _lines_with_text(body))


def packed(body: bytes) -> bytes:
    """A body as it is put into a stream: compressed, where that pays."""
    if len(body) < _COMPRESS_BYTES or body.startswith(_COMPRESSED):  # as one that was put in quarantine unread may
        return body
    queued: bytes = _COMPRESSED + lz4.block.compress(body)
    return queued if len(queued) < len(body) <= len(queued) * _MAX_COMPRESSION_RATIO else body


def unpacked(queued: bytes) -> bytes:
    """The inverse of `packed`. What cannot be read is left as it is, for the drain to find that it is no JSON."""
    if not queued.startswith(_COMPRESSED):
        return queued
    try:
        body: bytes = lz4.block.decompress(memoryview(queued)[len(_COMPRESSED) :])
    except (lz4.block.LZ4BlockError, ValueError, MemoryError):  # the latter where a damaged one claims gigabytes
        return queued
    return body
