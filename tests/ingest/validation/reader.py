"""A reader of records. It was written only from the contract, and shares no code with the product's readers."""

import json
import math
import operator
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema

DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


class Refused(Exception):
    """The contract does not accept this record."""


class Number(str):
    """A JSON number, as it was written."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """A JSON object with all its pairs, also pairs with the same name."""


def expected(schema: CompiledSchema, record: bytes) -> dict[str, Any]:
    """Return the row that a worker should write for a record. Raise Refused if the contract does not accept it."""
    found = _parse(record)
    if not isinstance(found, Pairs):
        raise Refused
    values = dict(found)  # if a name occurs twice, its last value counts
    always = [Field("timestamp", "timestamp"), Field("context", "context")]
    fields = {field.name: field for field in (*always, *schema.fields)}
    needed = {name for name, field in fields.items() if not field.optional}
    if not needed <= values.keys() <= fields.keys():
        raise Refused
    return {name: _value(field, values.get(name)) for name, field in fields.items()}


def _parse(text: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise Refused

    try:
        found = json.loads(
            text.decode(), parse_constant=refuse, parse_int=Number, parse_float=Number, object_pairs_hook=Pairs
        )
    except ValueError:
        raise Refused from None
    _refuse_lone_surrogates(found)
    return found


def _refuse_lone_surrogates(found: Any) -> None:
    if isinstance(found, str):
        if any("\ud800" <= character <= "\udfff" for character in found):
            raise Refused
    elif isinstance(found, list | tuple):
        for each in found:
            _refuse_lone_surrogates(each)


def _value(field: Field, value: Any) -> Any:
    if field.optional and value is None:
        return None
    found = _unconstrained(field, value)
    for limit, keeps in ((field.minimum, operator.ge), (field.maximum, operator.le)):
        if limit is not None and not keeps(found, _scalar(field.type, _as_read(limit))):
            raise Refused
    for length, keeps in ((field.min_length, operator.ge), (field.max_length, operator.le)):
        if length is not None and not keeps(len(found), length):
            raise Refused
    if field.pattern is not None and not re.search(field.pattern, found):
        raise Refused
    return found


def _as_read(limit: Any) -> Any:
    return limit if isinstance(limit, str) else Number(limit)


def _unconstrained(field: Field, value: Any) -> Any:
    if field.type.endswith("[]"):
        if type(value) is not list:
            raise Refused
        return [_scalar(field.type.removesuffix("[]"), each) for each in value]
    if field.type == "enum":
        if value not in field.values:
            raise Refused
        return value
    return _scalar(field.type, value)


def _scalar(type_name: str, value: Any) -> Any:
    if type_name == "json":
        return value
    if type_name == "number" and type(value) is Number and math.isfinite(float(value)):
        return float(value)
    if type_name == "integer" and type(value) is Number and re.fullmatch("-?[0-9]+", value):
        number = int(value)
        if -(2**63) <= number < 2**63:
            return number
    if type_name.startswith("decimal"):
        return _decimal(type_name, value)
    if type(value) is str:
        reads: dict[str, Callable[[str], Any]] = {
            "timestamp": microseconds,
            "date": _date,
            "uuid": _uuid,
            "string": str,
        }
        if type_name in reads:
            return reads[type_name](value)
    if (type_name, type(value)) in (("string", str), ("boolean", bool), ("context", Pairs)):
        return value
    raise Refused


def _decimal(type_name: str, value: Any) -> Decimal:
    digits, scale = map(int, type_name.removeprefix("decimal(").removesuffix(")").split(","))
    if not isinstance(value, str) or not re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", value):
        raise Refused
    scaled = Fraction(value) * 10**scale
    if scaled.denominator != 1 or abs(scaled) >= 10**digits:
        raise Refused
    return Decimal(f"{scaled.numerator}e-{scale}")


def _date(text: str) -> date:
    found = re.fullmatch("([0-9]{4})-([0-9]{2})-([0-9]{2})", text)
    if not found:
        raise Refused
    try:
        return date(*map(int, found.groups()))
    except ValueError:
        raise Refused from None


def _uuid(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise Refused
    return text


def microseconds(text: str) -> int:
    match = DATE_TIME.fullmatch(text)
    if match is None:
        raise Refused
    *whole, fraction, sign, hours, minutes = match.groups()
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        raise Refused
    rounded = (Decimal("0" + (fraction or "")) * 1_000_000).to_integral_value(ROUND_HALF_UP)
    try:
        year, month, day, hour, minute, second = map(int, whole)
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC) + timedelta(microseconds=int(rounded))
    except (ValueError, OverflowError):
        raise Refused from None
    offset = (int(hours or 0) * 60 + int(minutes or 0)) * (-1 if sign == "-" else 1)
    instant = (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) - offset * 60_000_000
    if not -62_135_596_800_000_000 <= instant < 253_402_300_800_000_000:  # the years 0001 to 9999
        raise Refused
    return instant
