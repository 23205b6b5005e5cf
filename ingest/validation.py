"""Is this body what the schema asks for? One typed decode says yes; a second, plain reading says why not.

The two agree on every input, because both read values with the decoders of `datasets.field_types`: the first whole
records at once, the second field by field.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import stringzilla
from django.conf import settings
from msgspec import Raw, Struct

from datasets.field_types import FIELD_TYPES, accepts, json_type
from datasets.schema import CompiledSchema
from ingest.errors import EmptyBatch, InvalidJson, InvalidRecords, TooManyRecords

MOST_PROBLEMS = 20

# Formats of a body, as the queue notes them.
OBJECT, ARRAY, LINES = b"o", b"a", b"l"

# What msgspec takes for a time stamp and RFC 3339 does not: `+0000` without a colon, and a space instead of the T.
_LAX_OFFSET = re.compile(rb':\d\d(?:\.\d+)?[+-]\d{4}"').search
# Their shapes, where each digit is a 0: looked for at the speed of memory, which a regular expression is not.
_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte).isdecimal() else byte for byte in range(256))
_LAX_EAST, _LAX_WEST, _LAX_SPACE = b'+0000"', b'-0000"', b"-00 00:"
# A character of these patterns, written as an escape; some JSON libraries write + as \u002B.
_ESCAPED = re.compile(rb"\\u00(?:2[0bdeBDE]|3[0-9aA])").search

_PARSE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_Problem = dict[str, object]
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode
_decode_any = msgspec.json.Decoder(Raw).decode


class Payload(Struct, frozen=True):
    """A valid body, ready to be queued."""

    body: bytes
    format: bytes
    count: int


def validate_one(schema: CompiledSchema, body: bytes) -> Payload:
    """A body that should be one record. Raises InvalidJson or InvalidRecords."""
    try:
        schema.one.decode(body)
    except _PARSE_ERRORS:
        pass
    else:
        if not _needs_second_reading(body):
            return Payload(body, OBJECT, 1)
    record = _read(body)
    return Payload(_second_reading(schema, [record], indexed=False)[1:-1], OBJECT, 1)


def validate_array(schema: CompiledSchema, body: bytes) -> Payload:
    """A body that should be a JSON array of records. Raises InvalidJson, EmptyBatch, TooManyRecords, InvalidRecords."""
    try:
        count = len(schema.many.decode(body))
    except _PARSE_ERRORS:
        pass
    else:
        if 0 < count <= settings.MAX_BATCH_RECORDS and not _needs_second_reading(body):
            return Payload(body, ARRAY, count)
    if json_type(_read(body)) != "array":
        raise EmptyBatch
    records = [bytes(record) for record in _decode_array(body)]
    return Payload(_second_reading(schema, records, indexed=True), ARRAY, len(records))


def validate_lines(schema: CompiledSchema, body: bytes) -> Payload:
    """A body that should be NDJSON: one record a line, blank lines ignored. Raises as `validate_array`."""
    lines = lines_of(body)
    if not lines:
        raise InvalidJson
    if len(lines) <= settings.MAX_BATCH_RECORDS and not _needs_second_reading(body):
        decode = schema.one.decode
        try:
            for line in lines:
                decode(line)
        except _PARSE_ERRORS:
            pass
        else:
            return Payload(body, LINES, len(lines))
    records = [_read(line, index) for index, line in enumerate(lines)]
    return Payload(_second_reading(schema, records, indexed=True), ARRAY, len(records))


def lines_of(body: bytes) -> list[bytes]:
    """The lines of NDJSON that hold something: more than JSON's own white space, which a form feed is not."""
    return [line for line in body.split(b"\n") if line.strip(b" \t\r")]


def _needs_second_reading(body: bytes) -> bool:
    """Whether the body may hold what msgspec lets pass: text that is not UTF-8, or a lax time stamp.

    msgspec skips over `context` without looking at its bytes. A yes may be wrong; a no never is.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return True
    # One byte is looked for many times faster than several.
    if b"\\" in body and b"\\u00" in body and _ESCAPED(body):
        return True
    shape = stringzilla.translate(body, _DIGITS_TO_ZERO)
    if stringzilla.find(shape, _LAX_SPACE) >= 0:
        return True
    may_have_offset = stringzilla.find(shape, _LAX_WEST) >= 0 or stringzilla.find(shape, _LAX_EAST) >= 0
    return may_have_offset and _LAX_OFFSET(body) is not None


def _read(text: bytes, index: int | None = None) -> bytes:
    """One JSON text, whole and well-formed. Raises InvalidJson, with the line's index in NDJSON."""
    try:
        text.decode()
        return bytes(_decode_any(text))
    except _PARSE_ERRORS:
        raise InvalidJson(None if index is None else {"index": index}) from None


def _second_reading(schema: CompiledSchema, records: Sequence[bytes], *, indexed: bool) -> bytes:
    """Find every problem of the records; or, where there is none, their text as an array the decoder accepts.

    There is none where a name stands twice in a record, first with a wrong value: the last one counts, and only it is
    passed on.
    """
    if not records:
        raise EmptyBatch
    if len(records) > settings.MAX_BATCH_RECORDS:
        raise TooManyRecords({"limit": settings.MAX_BATCH_RECORDS})
    try:
        found = list(islice(_problems(schema, records, indexed), MOST_PROBLEMS + 1))
        if found:
            first = records[int(str(found[0].get("index", 0)))]
            raise InvalidRecords(found[:MOST_PROBLEMS], truncated=len(found) > MOST_PROBLEMS, record=first)
        body = msgspec.json.encode([_decode_object(record) for record in records])
        schema.many.decode(body)  # the readings agree, or we fail here and not in a worker
    except RecursionError:  # what `_read` could just parse, from a stack that is not as deep as here
        raise InvalidJson from None
    return body


def _problems(schema: CompiledSchema, records: Sequence[bytes], indexed: bool) -> Iterator[_Problem]:
    for index, record in enumerate(records):
        place: dict[str, object] = {"index": index} if indexed else {}
        received = json_type(record)
        if received != "object":
            yield _problem("Payload must be an object", "not_an_object", place, "object", received)
            continue
        for text, code, field, expected, came in _record_problems(schema, _decode_object(record)):
            yield _problem(text, code, {**place, "field": field}, expected, came)


def _record_problems(schema: CompiledSchema, record: dict[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """What is wrong with one record, in the contract's order: (error, code, field, expected, received)."""
    values = {name: bytes(value) for name, value in record.items()}

    def received(name: str) -> str:
        return json_type(values[name]) if name in values else "nothing"

    if "timestamp" not in values or not accepts("timestamp", values["timestamp"]):
        expected = FIELD_TYPES["timestamp"].expected
        yield "Invalid or missing timestamp", "invalid_timestamp", "timestamp", expected, received("timestamp")
    if received("context") != "object":
        yield "context must be an object", "invalid_context", "context", "object", received("context")
    for name in values:
        if name not in schema.types and name not in ("timestamp", "context"):
            yield f"Extra field: {name}", "extra_field", name, "nothing", received(name)
    for name, type_name in schema.types.items():
        if name not in values:
            yield f"Missing field: {name}", "missing_field", name, FIELD_TYPES[type_name].expected, "nothing"
    for name, type_name in schema.types.items():
        if name in values and not accepts(type_name, values[name]):
            expected = FIELD_TYPES[type_name].expected
            yield f"Invalid {type_name} field: {name}", "invalid_field", name, expected, received(name)


def _problem(error: str, code: str, place: dict[str, object], expected: str, received: str) -> _Problem:
    return {"error": error, "code": code, **place, "expected": expected, "received": received}
