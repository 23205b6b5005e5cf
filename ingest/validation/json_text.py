"""Check JSON text and split it into elements, without making Python objects of its values.

A body of 10 MB can hold five million values. As Python objects they would take half a gigabyte.
"""

import codecs
import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw

PARSE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Raises where a text is not one whole JSON value. It does not look whether texts are UTF-8.
skip_value = msgspec.json.Decoder(Raw).decode
# msgspec's error where another character follows a complete value: it counts the characters up to this one.
_FOLLOWED = re.compile(r"JSON is malformed: trailing characters \(byte (\d+)\)").fullmatch
# As text, a slice takes up to four times its bytes.
_SLICE_BYTES = 64 * 1024


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


def is_json(text: bytes) -> bool:
    """Return whether this is one well-formed JSON text."""
    try:
        skip_value(text)
    except PARSE_ERRORS:
        return False
    return not_utf8(text) is None


def elements(array: bytes) -> Iterator[bytes]:
    """Yield the text of each element of a well-formed array, one after the other."""
    return (array[start:end] for start, end in spans(array))


def spans(array: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each element of an array begins and ends; up to the first one that is not well-formed."""
    view, at = memoryview(array), array.index(b"[") + 1
    while True:
        try:
            skip_value(view[at:])
            return  # the array does not end
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
    """Return the offset of what follows a whole value, if that is what msgspec's error says."""
    followed = _FOLLOWED(message)
    return int(followed[1]) - 1 if followed else None
