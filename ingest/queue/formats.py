"""How the queue holds bodies: as one JSON object, a JSON array, or NDJSON lines. Large bodies are compressed."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import islice

import lz4.block
import stringzilla
from msgspec import Struct

# Formats of a body, as a stream entry names them.
OBJECT, ARRAY, LINES = b"o", b"a", b"l"
# A body with this number of lines or more is read line by line. To split it would make a Python object for each line,
# even for a blank one.
_MANY_LINES = 100_000
_lines_with_text = re.compile(rb"[^ \t\r\n][^\n]*").finditer
# Bodies from this size on are compressed. JSON shrinks to about a quarter. So the only thread of Redis has less to
# read, copy, log and sync, and Redis needs less memory.
_COMPRESS_BYTES = 8192
# If a body shrinks by a larger factor than this, it hardly contains data, and is queued uncompressed. Otherwise 10 MB
# of spaces would be queued as 41 KB, and the limit of the backlog would not limit what a worker has to read.
_MAX_COMPRESSION_RATIO = 32
# The number of bytes of a body's digest that Redis keeps with an Idempotency-Key.
DIGEST_BYTES = 8
_EARLIER = re.compile(r"([1-9][0-9]{0,18}) ([01]+)").fullmatch
_COMPRESSED = b"\0"  # this byte comes before an LZ4 block. No JSON text begins with it


class Rejected(Struct, frozen=True):
    """The refused records of a lenient batch."""

    count: int
    answer: bytes  # what the 202 answer says about these records: members of a JSON object, without its braces
    # For the first refused records, at most `record_errors.MAX_PROBLEMS` of them: the first problem and the text.
    first: list[tuple[dict[str, object], bytes]]


class Earlier(Struct, frozen=True):
    """Says which records of a payload have the old form: the fields of the previous schema version."""

    version_id: int  # the ID of the previous schema version
    marks: str  # one digit for each record in order: 1 if it has the old form, else 0. At least one digit is 1

    @property
    def count(self) -> int:
        return self.marks.count("1")

    @property
    def has_all(self) -> bool:
        """Whether all records have the old form."""
        return "0" not in self.marks

    @property
    def text(self) -> str:
        """The ID and the marks as text, for a stream entry and for the quarantine."""
        return f"{self.version_id} {self.marks}"

    @classmethod
    def of(cls, version_id: int, marks: Iterable[bool]) -> "Earlier | None":
        """Return an Earlier with these marks, or None if no record is marked."""
        text = "".join("1" if mark else "0" for mark in marks)
        return cls(version_id, text) if "1" in text else None

    @classmethod
    def read(cls, text: str) -> "Earlier | None":
        """Read a text that the property `text` has made. Return None for any other text."""
        match = _EARLIER(text)
        return cls(int(match[1]), match[2]) if match else None


class Payload(Struct, frozen=True):
    """A valid body, ready to be queued."""

    body: bytes
    format: bytes
    count: int
    rejected: Rejected | None = None  # None if the client did not ask for lenient handling
    queued: bytes = b""  # the result of `packed`, if it was computed in advance
    earlier: Earlier | None = None  # None: all records match the latest schema version


def lines_of(body: bytes, most: int | None = None) -> list[bytes]:
    """Return the lines of NDJSON that are not blank. If `body` has _MANY_LINES or more, return at most `most` lines."""
    if stringzilla.count(body, b"\n") < _MANY_LINES:
        return [line for line in body.split(b"\n") if line.strip(b" \t\r")]
    return [line.group() for line in islice(_lines_with_text(body), most)]


def starts_of_lines(body: bytes) -> Iterator[int]:
    """Yield the offset of the first character that is not white space, for each line of NDJSON that is not blank."""
    return (line.start() for line in _lines_with_text(body))


def packed(body: bytes) -> bytes:
    """Return a body as it is put into a stream: compressed if that saves space."""
    # The body of a replayed entry may be damaged and begin like a compressed body.
    if len(body) < _COMPRESS_BYTES or body.startswith(_COMPRESSED):
        return body
    queued: bytes = _COMPRESSED + lz4.block.compress(body)
    return queued if len(queued) < len(body) <= len(queued) * _MAX_COMPRESSION_RATIO else body


def unpacked(queued: bytes) -> bytes:
    """Return the body that was given to `packed`.

    Damaged data is returned as it is. The drain then finds that it is not JSON.
    """
    if not queued.startswith(_COMPRESSED):
        return queued
    try:
        body: bytes = lz4.block.decompress(memoryview(queued)[len(_COMPRESSED) :])
    except (lz4.block.LZ4BlockError, ValueError, MemoryError):  # damaged data may claim that it needs gigabytes
        return queued
    return body


class Retryable(Struct, frozen=True):
    """What identifies a repeated request: its Idempotency-Key, and a digest of its content and its kind."""

    key: str
    digest: bytes

    @classmethod
    def of(cls, key: str, kind: str, body: bytes) -> "Retryable":
        """Return what identifies a request.

        Args:
            key: The Idempotency-Key.
            kind: How the body is sent: the view's name and the media type, or `import`.
            body: The request's body. For an import: the end of the chunk, and the options of the import.
        """
        return cls(key, hashlib.blake2b(body, digest_size=16, key=kind.encode()).digest()[:DIGEST_BYTES])
