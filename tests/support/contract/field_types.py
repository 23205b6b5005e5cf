"""The oracle's field types: which values a type has, how a value is stored, and what errors expect.

A type is written as in a schema, with a `?` if the field is optional. An `enum` has the values VALUES.
"""

from __future__ import annotations

import calendar
import re
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from math import isinf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.contract.oracle import Value

VALUES = ("a", "b", "ä 😀")
EXPECTED = {
    "string": "string",
    "number": "number",
    "boolean": "boolean",
    "timestamp": "RFC 3339 date-time with an offset",
    "integer": "integer",
    "date": "RFC 3339 full-date",
    "uuid": "UUID",
    "json": "JSON value",
    "enum": 'one of "a", "b", "ä 😀"',
}
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class _NotOne(Exception):
    """The value is not of the type."""


def expected(type_name: str) -> str:
    """Return the text that an error has in `expected`."""
    if type_name.endswith("?"):
        return f"{expected(type_name[:-1])}, or null"
    if type_name.endswith("[]"):
        return f"array, each element: {expected(type_name[:-2])}"
    return EXPECTED.get(type_name, f"{type_name}, as a number or a string")


def accepts(type_name: str, value: Value) -> bool:
    """Return whether a value has a field's type. Nothing is converted."""
    try:
        stored(type_name, value, "")
    except _NotOne:
        return False
    return True


def stored(type_name: str, value: Value | None, source: str) -> Any:
    """Convert a value to the form that it has in the table. Timestamps become microseconds.

    Args:
        type_name: The type.
        value: The value, None if the record does not have it.
        source: The text of the body, which has the text of a JSON value.
    """
    if type_name.endswith("?") and (value is None or value.type == "null"):
        return None
    assert value is not None
    name = type_name.removesuffix("?")
    if name == "json":
        return source[value.start : value.end]
    if name.endswith("[]"):
        if value.type != "array":
            raise _NotOne
        return [stored(name[:-2], each, source) for each in value.says]
    found = _scalar(name, value.type, value.says)
    if found is None:
        raise _NotOne
    return found


def _scalar(name: str, kind: str, says: Any) -> Any:
    """Convert a scalar to the form that it has in the table. Return None if the value does not have the type."""
    if name == kind and name != "number":
        return says
    if name == "number":
        return float(says) if kind == "number" and not isinf(float(says)) else None
    if name == "integer":
        return _integer(says) if kind == "number" else None
    if name.startswith("decimal"):
        return _decimal(name, says) if kind in ("number", "string") else None
    if kind != "string":
        return None
    if name == "enum":
        return says if says in VALUES else None
    if name == "uuid":
        return says if _UUID.fullmatch(says) else None
    return microseconds(says) if name == "timestamp" else _date(says) if name == "date" else None


def _integer(text: str) -> int | None:
    # The longest integer of 64 bits has 19 digits.
    if not _INTEGER.fullmatch(text) or len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        return None
    return int(text)


def _decimal(name: str, text: str) -> Decimal | None:
    """Return a number exactly. Return None if it has too many digits before or after the point.

    Zeros at the ends do not count. The exponent of a zero has at most 18 digits.
    """
    total, scale = map(int, name.removeprefix("decimal(").removesuffix(")").split(","))
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, fraction, exponent = found.group(1), found.group(2), found.group(3) or "", int(found.group(4) or 0)
    digits = (whole + fraction).strip("0")
    if not digits:
        return Decimal(0) if abs(exponent) < 10**18 else None
    power = exponent - len(fraction) + len(whole + fraction) - len((whole + fraction).rstrip("0"))
    if -power > scale or len(digits) + power > total - scale:
        return None
    return Decimal(f"{sign}{digits}e{power}")  # exact; scaleb would round


def _date(text: str) -> date | None:
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = map(int, found.groups())
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return date(year, month, day)


# -- RFC 3339 -----------------------------------------------------------------------------------------

_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DAYS_BEFORE_1970 = 719_162  # from 0001-01-01
_FIRST = -62_135_596_800_000_000  # 0001-01-01T00:00:00
_LAST = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999


def microseconds(text: str) -> int | None:
    """Return a date-time as microseconds since 1970 in UTC, rounded. Return None if the text is not a date-time.

    The year must be 0001 to 9999 in the text, after rounding, and after conversion to UTC. A leap second is not a
    date-time.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    offset = 0
    if found[8]:
        offset_hour, offset_minute = int(found[9]), int(found[10])
        if offset_hour > 23 or offset_minute > 59:
            return None
        offset = (offset_hour * 60 + offset_minute) * (1 if found[8] == "+" else -1)
    years = year - 1
    days = years * 365 + years // 4 - years // 100 + years // 400 - _DAYS_BEFORE_1970
    days += sum(calendar.monthrange(year, earlier)[1] for earlier in range(1, month)) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    fraction = Decimal("0" + (found[7] or "")) * 1_000_000
    local = seconds * 1_000_000 + int(fraction.quantize(Decimal(1), ROUND_HALF_UP))
    instant = local - offset * 60_000_000
    return instant if local <= _LAST and _FIRST <= instant <= _LAST else None
