"""Say why a JSON value is not of a type, in the words that the service uses."""

from __future__ import annotations

import re

import msgspec

from dataset_ingest.schema.date_times import EXAMPLE, why_no_date_time

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1

_EXAMPLE_DATE = "2026-06-10"
_EXAMPLE_UUID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
_JSON_TYPES = {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null"}
_FULL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch


def json_type(value: bytes) -> str:
    """Return the JSON type of a value given as JSON text, as errors name it in `received`."""
    return _JSON_TYPES.get(value.lstrip()[:1], "number")


def text_of(value: bytes) -> str:
    """Return the text of a JSON string."""
    return msgspec.json.decode(value, type=str)


def why_no_number(value: bytes) -> str | None:
    """Return why a JSON value is not a number."""
    return "It is beyond the range of a double." if json_type(value) == "number" else None


def why_no_timestamp(value: bytes) -> str | None:
    """Return why a JSON value is not a timestamp."""
    if json_type(value) != "string":
        return f"A timestamp is a string, like {EXAMPLE}."
    return why_no_date_time(text_of(value))


def why_no_integer(value: bytes) -> str | None:
    """Return why a JSON value is not an integer."""
    if json_type(value) != "number":
        return None
    if value.strip().removeprefix(b"-").isdigit():
        return f"It is beyond 64 bits: an integer is {MIN_INTEGER} to {MAX_INTEGER}."
    return "Write an integer without a point and without an exponent: 1, not 1.0 or 1e0."


def why_no_date(value: bytes) -> str | None:
    """Return why a JSON value is not a date."""
    if json_type(value) != "string":
        return f"A date is a string, like {_EXAMPLE_DATE}."
    text = text_of(value)
    if not _FULL_DATE(text):
        return f"It is not like {_EXAMPLE_DATE}: a date has no time of day and no offset."
    if text.startswith("0000"):
        return "The year must be 0001 to 9999."
    return f"There is no date {text}."


def why_no_uuid(value: bytes) -> str | None:
    """Return why a JSON value is not a UUID."""
    if json_type(value) != "string":
        return f"A UUID is a string, like {_EXAMPLE_UUID}."
    return f"Write it as 32 hexadecimal digits with hyphens, like {_EXAMPLE_UUID}."
