"""Find what msgspec accepts although the contract forbids it: text that is not UTF-8, and some timestamps."""

import re

import stringzilla
from msgspec.structs import astuple

from datasets.schemas.date_times import FIRST_DAY, LAST_DAY, is_date_time
from datasets.schemas.schema import CompiledSchema
from ingest.validation.json_text import PARSE_ERRORS, not_utf8

# What msgspec takes for a timestamp and RFC 3339 does not: `+0000` without a colon, and a space instead of the T.
_LAX_OFFSET = re.compile(rb':\d\d(?:\.\d+)?[+-]\d{4}"').search
# Their shapes, where each digit is a 0: looked for at the speed of memory, which a regular expression is not.
_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte).isdecimal() else byte for byte in range(256))
_LAX_EAST, _LAX_WEST, _LAX_SPACE = b'+0000"', b'-0000"', b"-00 00:"
# The days that can be in the year 0 or 10000 in UTC.
_FIRST_DAY, _LAST_DAY = b'"' + FIRST_DAY.encode(), b'"' + LAST_DAY.encode()
# A character of these patterns, written as an escape; some JSON libraries write + as \u002B.
_ESCAPED = re.compile(rb"\\u00(?:2[0bdeBDE]|3[0-9aA])").search


def is_utf8(body: bytes) -> bool:
    """Return whether a body is UTF-8. msgspec skips over `context` without looking at its bytes."""
    return body.isascii() or not_utf8(body) is None


def may_be_misread(body: bytes) -> bool:
    """Return whether msgspec may have taken a timestamp that is none. A yes may be wrong; a no never is."""
    # One byte is looked for many times faster than several.
    if b"\\" in body and b"\\u00" in body and _ESCAPED(body):
        return True
    shape = stringzilla.translate(body, _DIGITS_TO_ZERO)
    if stringzilla.find(shape, _LAX_SPACE) >= 0:
        return True
    may_have_offset = stringzilla.find(shape, _LAX_WEST) >= 0 or stringzilla.find(shape, _LAX_EAST) >= 0
    if may_have_offset and _LAX_OFFSET(body):
        return True
    return bool(stringzilla.find(body, _FIRST_DAY) >= 0 or stringzilla.find(body, _LAST_DAY) >= 0)


def has_date_times(schema: CompiledSchema, records: bytes) -> bool:
    """Return whether each timestamp of an array of records, which msgspec has accepted, is one of ours."""
    try:
        read = schema.date_times.decode(records)
    except PARSE_ERRORS:  # an array nests one level deeper than its records
        return False
    return all(is_date_time(text) for record in read for text in astuple(record))
