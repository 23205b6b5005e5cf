"""Explain why a body is not JSON: the line and column of the fault, and its cause if the cause is known.

This runs only when a body is refused. The place comes from msgspec's error, the cause from the bytes at this place.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import msgspec
from django.conf import settings

from config.common.errors import InvalidJson
from ingest.validation.json_text import followed_at, not_utf8, skip_value, spans

EMPTY = "The body is empty."
TOO_DEEP = "The values are nested too deep. At most 900 levels are supported."

_MALFORMED = re.compile(r"JSON is malformed: (.+) \(byte (\d+)\)").fullmatch
_ONE_A_LINE = "`curl -d` removes line breaks, `curl --data-binary` keeps them"

# The first bytes of a text that is not JSON -> what it is.
_BEGINNINGS = {
    b"\xef\xbb\xbf": "a byte order mark (BOM): save the text as UTF-8 without one",
    b"\xff\xfe": "this is UTF-16: send UTF-8",
    b"\xfe\xff": "this is UTF-16: send UTF-8",
    b"\x1f\x8b": "this is gzip: send the header Content-Encoding: gzip",
    b"\x28\xb5\x2f\xfd": "this is zstd: send the header Content-Encoding: zstd",
}
# The bytes at the fault -> the cause.
_CAUSES = [
    (rb"\xef\xbb\xbf", _BEGINNINGS[b"\xef\xbb\xbf"]),
    (rb"'", 'JSON writes text in double quotes ("), not in single ones'),
    (rb"\xe2\x80[\x9c\x9d]", 'a typographic quote: JSON writes "'),
    (rb"\xc2\xa0", "a no-break space"),
    (rb"/[/*]|#", "JSON has no comments"),
    (rb"%7[Bb]|%5[Bb]|%22", "this is URL-encoded: send JSON as it is"),
    (rb"\x00", "a NUL byte: if this is UTF-16, send UTF-8"),
    (rb"[\r\n]", r"a line break inside a text: JSON writes \n"),
    (rb"[\x01-\x1f]", r"a control character: JSON has none between values, and in a text writes \t or \u001b"),
]
# The causes at a place where JSON needs a value.
_CAUSES_OF_VALUES = [
    (rb"(?i:nan|inf|infinity)\b", "NaN and Infinity are not JSON numbers"),
    (rb"(?i:true|false|null|none|undefined)\b", "JSON writes true, false and null, in lower case"),
    (rb"[.+]?[0-9]|[.+]", "a JSON number begins with a digit or a minus, and not with a zero before other digits"),
]
_WORDS = {"expected '\"'": 'a name in double quotes (") is expected'}  # msgspec's words -> our words
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
).search
# In UTF-8, a character of several bytes has these bytes after its first byte.
_NOT_FIRST_BYTES = bytes(range(0x80, 0xC0))


class Fault(NamedTuple):
    """Why a text is not JSON, and the offset of the byte at fault, if it is known."""

    cause: str
    at: int | None = None
    in_array: bool = True  # whether the fault is in an element, if the text is an array


def check_json(body: bytes) -> None:
    """Raise InvalidJson unless a body is one JSON value. If the fault is in an element of an array, add its index."""
    fault = _fault(body, is_line=False)
    if fault is None:
        return
    index = _index(body, fault.at) if fault.in_array and body.lstrip()[:1] == b"[" else None
    raise _invalid(body, fault, index)


def check_line(body: bytes, line: bytes, index: int, starts: Iterator[tuple[int, int]]) -> None:
    """Raise InvalidJson unless a line of NDJSON is one JSON value.

    Args:
        body: The whole body.
        line: The line to check. Check the lines in their order.
        index: The index of the line, for the error.
        starts: `enumerate(starts_of_lines(body))`. Use one iterator for all lines: it is read up to each bad line.
    """
    fault = _fault(line, is_line=True)
    if fault is None:
        return
    if fault.at is not None:
        start = next(at for number, at in starts if number == index)
        fault = fault._replace(at=start + fault.at - (len(line) - len(line.lstrip(b" \t\r"))))
    raise _invalid(body, fault, index)


def _invalid(body: bytes, fault: Fault, index: int | None) -> InvalidJson:
    detail = fault.cause
    if fault.at is not None:
        line = body.count(b"\n", 0, fault.at) + 1
        before = body[body.rfind(b"\n", 0, fault.at) + 1 : fault.at]
        column = len(before.translate(None, _NOT_FIRST_BYTES)) + 1
        detail = f"Line {line}, column {column} (byte {fault.at}): {fault.cause}."
    return InvalidJson({"detail": detail} if index is None else {"index": index, "detail": detail})


def _fault(text: bytes, *, is_line: bool) -> Fault | None:
    """Return why a text is not JSON, or None if it is JSON."""
    bad = not_utf8(text)
    try:
        if bad is None:
            skip_value(text)
            return None
    except RecursionError:
        return Fault(TOO_DEEP)
    except msgspec.DecodeError as error:
        message = str(error)
    if not text.strip(b" \t\r\n"):
        return Fault(EMPTY)
    for beginning, cause in _BEGINNINGS.items():
        if text.startswith(beginning):
            return Fault(cause, 0)
    if bad is not None:
        return Fault(f"the byte 0x{text[bad]:02x} is not UTF-8", bad)
    after = followed_at(message)
    if after is not None:
        return Fault(_why_followed(text, after, is_line), after, in_array=False)
    malformed = _MALFORMED(message)
    at = int(malformed[2]) if malformed else len(text)
    lone = _LONE_SURROGATE(text, max(0, at - 12))
    if lone and lone.start() < at + 12 and lone.end() < len(text):
        return Fault(
            "half of a surrogate pair is not a character: write two escapes for a character beyond U+FFFF", lone.start()
        )
    if malformed is None:
        return Fault(_why_cut(text, is_line), len(text))
    return _known(text, at, malformed[1])


def _known(text: bytes, at: int, said: str) -> Fault:
    """Return the fault at a place. If its cause is not known, use the words of msgspec."""
    causes, place = _CAUSES, at
    if said in ("invalid character", "invalid number"):
        causes = [*_CAUSES, *_CAUSES_OF_VALUES]
        while text[at : at + 1].isalpha() and text[place - 1 : place].isalpha() and at - place < len("undefined"):
            place -= 1  # msgspec has read the n of `nan` as the beginning of `null`
    for pattern, cause in causes:
        if re.compile(pattern).match(text, place):
            return Fault(cause, place)
    return Fault(_WORDS.get(said, said), at)


def _why_followed(text: bytes, at: int, is_line: bool) -> str:
    """Return why there is other text after a whole value."""
    if text[at : at + 1] == b",":
        if is_line:
            return "a comma after the value: NDJSON has none between its lines"
        return "a comma after the value: a batch is an array, with [ before its records and ] after them"
    if text[at : at + 1] not in (b"{", b"["):
        return "other characters after the value"
    if is_line:
        return f"a second value on the line: write each record on its own line; {_ONE_A_LINE}"
    if b"\n" in text[len(text[:at].rstrip()) : at]:
        return "a second value on a line of its own: send NDJSON to /batch as Content-Type: application/x-ndjson"
    return f"a second value after the first: if this was NDJSON, {_ONE_A_LINE}"


def _why_cut(text: bytes, is_line: bool) -> str:
    if not is_line:
        return "the body ends before its value does"
    if text.lstrip()[:1] == b"[":
        return "the line ends before its value does: send a JSON array as Content-Type: application/json"
    return "the line ends before its value does: write each record on one line"


def _index(array: bytes, at: int | None) -> int | None:
    """Return the index of the element with the fault, or None if it is beyond the records that a batch may have."""
    index, end, most = -1, array.index(b"["), settings.MAX_BATCH_RECORDS
    try:
        for start, after in islice(spans(array), most):
            if at is not None and start > at:
                break
            index, end = index + 1, after
    except RecursionError:
        return index + 1
    is_trailing_comma = at is not None and array[at : at + 1] == b"]" and not array[end + 1 : at].strip()
    if at is not None and at > end and not is_trailing_comma:  # the fault is in the first element that is not valid
        index += 1
    return index if 0 <= index < most else None
