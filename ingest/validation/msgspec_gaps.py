"""Find what msgspec accepts although the API forbids it: text that is not UTF-8, and some timestamps."""

import re
from itertools import chain

import stringzilla
from msgspec.structs import astuple

from datasets.schemas.date_times import FIRST_DAY, LAST_DAY, is_date_time
from datasets.schemas.field_types import texts_of
from datasets.schemas.schema import CompiledSchema
from ingest.validation.json_text import PARSE_ERRORS, not_utf8

# msgspec accepts timestamps that RFC 3339 forbids: an offset without a colon (`+0000`), and a space instead of the T.
_LAX_OFFSET = re.compile(rb':\d\d(?:\.\d+)?[+-]\d{4}"').search
# Parts of such timestamps, with each digit replaced by 0. The search for a fixed text is much faster than a regular
# expression.
_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte).isdecimal() else byte for byte in range(256))
_LAX_EAST, _LAX_WEST, _LAX_SPACE = b'+0000"', b'-0000"', b"-00 00:"
# A timestamp can be in the year 0 or 10000 in UTC only if the day in its text is one of these.
_FIRST_DAY, _LAST_DAY = b'"' + FIRST_DAY.encode(), b'"' + LAST_DAY.encode()
# A character of the patterns above, written as an escape. Some JSON libraries write + as \u002B.
_ESCAPED = re.compile(rb"\\u00(?:2[0bdeBDE]|3[0-9aA])").search


def is_utf8(body: bytes) -> bool:
    """Return whether a body is UTF-8. msgspec does not check the bytes of `context`."""
    return body.isascii() or not_utf8(body) is None


def may_be_misread(body: bytes) -> bool:
    """Return False if msgspec has certainly accepted no invalid timestamp. Return True if it may have accepted one."""
    # The search for one byte is many times faster than the search for several.
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
    """Return whether each timestamp is valid, in an array of records that msgspec has accepted."""
    try:
        read = schema.date_times.decode(records)
    except PARSE_ERRORS:  # an array nests one level deeper than its records
        return False
    values = chain.from_iterable(map(astuple, read))
    return all(map(is_date_time, values if schema.has_plain_times else chain.from_iterable(map(texts_of, values))))
