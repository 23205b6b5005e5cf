"""Timestamps as the contract has them: RFC 3339 with an offset, in the years 0001 to 9999 of UTC.

msgspec reads them. It also accepts a space instead of the T, an offset without its colon, and instants that lie in the
year 0 or 10000 in UTC, after which Python's readers fail on the whole table.
"""

import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

Timestamp = Annotated[datetime, Meta(tz=True)]

# RFC 3339, section 5.6 (`date-time`). A NUL or other digits than ASCII's do not get past msgspec.
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII).fullmatch
# An offset is less than a day, so only these days as written can be in another year in UTC.
FIRST_DAY, LAST_DAY = "0001-01-01", "9999-12-31"


def is_date_time(text: str) -> bool:
    """Return whether a text that msgspec takes for a timestamp is one of ours."""
    if _DATE_TIME(text) is None:
        return False
    return not text.startswith((FIRST_DAY, LAST_DAY)) or _is_in_range(text)


def _is_in_range(text: str) -> bool:
    try:
        msgspec.convert(text, Timestamp).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True
