"""Timestamps of the API: RFC 3339 with an offset, in the years 0001 to 9999 of UTC.

msgspec reads timestamps more leniently: it accepts a space instead of the T, an offset without a colon, and times in
the year 0 or 10000 of UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timezone
from typing import Annotated

import msgspec
from msgspec import Meta

EXAMPLE = "2026-06-10T10:58:00Z"
Timestamp = Annotated[datetime, Meta(tz=True)]

# RFC 3339, section 5.6 (`date-time`). msgspec has already refused NUL and digits outside ASCII.
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII).fullmatch
# An offset is less than a day, so only a time on one of these days can lie outside the years 0001 to 9999 of UTC.
FIRST_DAY, LAST_DAY = "0001-01-01", "9999-12-31"


def is_date_time(text: str) -> bool:
    """Return whether the API accepts a text that msgspec accepts as a timestamp."""
    if _DATE_TIME(text) is None:
        return False
    return not text.startswith((FIRST_DAY, LAST_DAY)) or _is_in_range(text)


def _is_in_range(text: str) -> bool:
    try:
        msgspec.convert(text, Timestamp).astimezone(timezone.utc)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


# What people and libraries often write: date, separator, time of day, seconds, fraction, and the rest.
_ALMOST = re.compile(r"(\d{4}-\d\d-\d\d)(?:(\D)(\d\d:\d\d)(?:(:\d\d)([.,]\d+)?)?(.*))?", re.ASCII | re.DOTALL).fullmatch
_OFFSETS = [
    (r"", "an offset is missing: Z, or one like +02:00"),
    (r"[Zz]|[+-]\d\d:\d\d", None),
    (r"[+-]\d{4}", "the offset needs a colon, like +02:00"),
    (r"[+-]\d\d", "the offset needs minutes, like +02:00"),
    (r"\s+([Zz]|[+-]\d\d:?\d\d)", "a space stands before the offset"),
    (r"\s*[A-Za-z]+|.*\[.*", "the offset is Z or one like +02:00, not a name"),
    (r"\N{MINUS SIGN}.*", "the minus of the offset is not an ASCII hyphen"),
    (r".*", "the offset is not Z or one like +02:00"),
]


def why_no_date_time(text: str) -> str:
    """Return what is wrong with a text that is not a valid timestamp."""
    if not text:
        return "It is empty."
    if text != text.strip():
        return "White space stands before or after it."
    if _DATE_TIME(text):
        return _why_no_moment(text)
    if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII):
        return f"A Unix time is not accepted: send a text like {EXAMPLE}."
    almost = _ALMOST(text)
    if almost is None:
        return f"It is not like {EXAMPLE}."
    reasons = list(_why_not_spelled(*almost.groups()[1:]))
    if not reasons:
        return f"It is not like {EXAMPLE}."
    return reasons[0][0].upper() + "; ".join(reasons)[1:] + "."


def _why_not_spelled(
    separator: str | None, minutes: str | None, seconds: str | None, fraction: str | None, offset: str
) -> Iterator[str]:
    if separator is None:
        yield "the time of day is missing"
        return
    if separator not in "Tt":
        yield "a T must stand between date and time" + (", not a space" if separator == " " else "")
    if seconds is None:
        yield "the seconds are missing"
    if offset.startswith("."):
        yield "the fraction of a second has no digits"
        return
    if fraction and fraction.startswith(","):
        yield "a point must stand before the fraction of a second, not a comma"
    for pattern, reason in _OFFSETS:
        if re.fullmatch(pattern, offset, re.ASCII | re.DOTALL):
            if reason:
                yield reason
            return


def _why_no_moment(text: str) -> str:
    """Return why a correctly spelled timestamp names no valid time."""
    day, hour, minute, second = text[:10], int(text[11:13]), int(text[14:16]), int(text[17:19])
    if day[:4] == "0000":
        return "The year must be 0001 to 9999."
    try:
        date.fromisoformat(day)
    except ValueError:
        return f"There is no date {day}."
    if second == 60:
        return "A leap second cannot be stored: send the second 59."
    if hour > 23 or minute > 59 or second > 59:
        return f"There is no time of day {text[11:19]}."
    if text[-1] not in "Zz" and (int(text[-5:-3]) > 23 or int(text[-2:]) > 59):
        return "The offset must lie between -23:59 and +23:59, with minutes up to 59."
    return "Its moment, in whole microseconds, must lie in the years 0001 to 9999, both in the text and in UTC."
