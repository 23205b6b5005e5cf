"""Check JSON text and split it into elements, without making Python objects of its values.

A body of 10 MB can hold five million values. As Python objects they would take half a gigabyte.
"""

import codecs
import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw

PARSE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Raises one of PARSE_ERRORS unless the text is one whole JSON value. It does not check that strings are UTF-8.
skip_value = msgspec.json.Decoder(Raw).decode
# msgspec's error if another character follows a whole value. Its number is the offset of this character plus one.
_FOLLOWED = re.compile(r"JSON is malformed: trailing characters \(byte (\d+)\)").fullmatch
# A slice of this size takes up to four times as many bytes when it is decoded.
_SLICE_BYTES = 64 * 1024


def not_utf8(text: bytes) -> int | None:
    """Return the offset of the first byte that is not UTF-8, or None if the text is UTF-8."""
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


def is_json(text: bytes) -> bool:
    """Return whether a text is one whole JSON value."""
    try:
        skip_value(text)
    except PARSE_ERRORS:
        return False
    return not_utf8(text) is None


def elements(array: bytes) -> Iterator[bytes]:
    """Yield the text of each element of an array that is valid JSON."""
    return (array[start:end] for start, end in spans(array))


def spans(array: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each element of an array begins and ends. Stop at the first element that is not valid JSON."""
    view, at = memoryview(array), array.index(b"[") + 1
    while True:
        try:
            skip_value(view[at:])
            return  # the array has no end
        except msgspec.DecodeError as error:
            length = followed_at(str(error))
        if length is None:
            return
        yield at, at + length
        at += length
        if array[at : at + 1] != b",":
            return
        at += 1


def followed_at(message: str) -> int | None:
    """Return the offset of the text that follows a whole value, or None if msgspec's error has another cause."""
    followed = _FOLLOWED(message)
    return int(followed[1]) - 1 if followed else None
