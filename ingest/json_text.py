"""JSON text, checked and taken apart without making objects of what it says.

A body of 10 MB can hold five million values. As Python objects they would take half a gigabyte.
"""

import codecs
import re
from collections.abc import Iterator
from itertools import islice

import msgspec
import stringzilla
from msgspec import Raw

from ingest.errors import InvalidJson

PARSE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_skip_value = msgspec.json.Decoder(Raw).decode
# msgspec's error where another character follows a complete value: it counts the characters up to this one.
_FOLLOWED = re.compile(r"JSON is malformed: trailing characters \(byte (\d+)\)").fullmatch
# As text, a slice takes up to four times its bytes.
_SLICE_BYTES = 64 * 1024
# Splitting makes an object of each line, also of blank ones: more lines are looked at one by one.
_MANY_LINES = 100_000
_lines_with_text = re.compile(rb"[^ \t\r\n][^\n]*").finditer


def check_json(text: bytes, index: int | None = None) -> None:
    """Raise InvalidJson unless this is one well-formed JSON text; `index` is that of the line in NDJSON."""
    try:
        if not_utf8(text) is None:
            _skip_value(text)
            return
    except PARSE_ERRORS:
        pass
    raise InvalidJson(None if index is None else {"index": index})


def not_utf8(text: bytes) -> int | None:
    """Return the offset of the first byte that is not UTF-8, None where all are."""
    if len(text) <= _SLICE_BYTES:
        try:
            text.decode()
        except UnicodeDecodeError as error:
            return error.start
        return None
    at = 0
    while at < len(text):
        end = at + _SLICE_BYTES
        try:
            _, used = codecs.utf_8_decode(text[at:end], "strict", end >= len(text))
        except UnicodeDecodeError as error:
            return at + error.start
        at += used
    return None


def elements(array: bytes) -> Iterator[bytes]:
    """Yield the text of each element of a well-formed array, one after the other."""
    view, at = memoryview(array), array.index(b"[") + 1
    while (length := _length_of_value(view[at:])) is not None:
        yield array[at : at + length]
        at += length + 1


def _length_of_value(text: memoryview) -> int | None:
    """Return the number of bytes before what follows the first value, None where no value comes first."""
    try:
        _skip_value(text)
    except msgspec.DecodeError as error:
        followed = _FOLLOWED(str(error))
        return int(followed[1]) - 1 if followed else None
    return None


def lines_of(body: bytes, most: int | None = None) -> list[bytes]:
    """Return the lines of NDJSON that hold more than JSON's white space; of very many, only the first `most`."""
    if stringzilla.count(body, b"\n") < _MANY_LINES:
        return [line for line in body.split(b"\n") if line.strip(b" \t\r")]
    return [line.group() for line in islice(_lines_with_text(body), most)]
