"""The table of field types: how each type is decoded, stored, checked and explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from config.lazy import pyarrow as pa
from datasets.schemas.date_times import EXAMPLE, Timestamp, is_date_time, why_no_date_time


def arrow_timestamp() -> pa.DataType:
    """Return the Arrow type of columns of times."""
    return pa.timestamp("us", "UTC")


def _arrow(alias: str) -> Callable[[], pa.DataType]:
    return lambda: pa.type_for_alias(alias)


def timestamps(texts: Sequence[str]) -> pa.Array:
    """Return RFC 3339 texts as an Arrow column of times.

    Arrow reads common spellings, ten times as fast as through datetimes. msgspec reads the others: lower-case letters,
    and more than six digits after the second.

    Raises:
        msgspec.ValidationError: A text is not a timestamp.
    """
    try:
        return pa.array(texts, pa.string()).cast(arrow_timestamp())
    except pa.ArrowInvalid:
        return pa.array(msgspec.convert(texts, list[Timestamp]), arrow_timestamp())


_JSON_TYPES = {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null"}


def json_type(value: bytes) -> str:
    """Return the JSON type of a value given as JSON text, as errors name it in `received`."""
    return _JSON_TYPES.get(value.lstrip()[:1], "number")


def _why_no_timestamp(value: bytes) -> str:
    if json_type(value) != "string":
        return f"A timestamp is a string, like {EXAMPLE}."
    return why_no_date_time(msgspec.json.decode(value, type=str))


@dataclass(frozen=True, slots=True)
class FieldType:
    """One type of the schema language: a row of FIELD_TYPES."""

    name: str
    decodes_to: Any  # the type for msgspec, which accepts nothing else
    arrow: Callable[[], pa.DataType]  # returns the type of the column
    expected: str  # the type's name in errors
    help: str  # the explanation in the admin
    spelled: Callable[[str], bool] | None = None  # checks a JSON string that the decoder has accepted
    why_not: Callable[[bytes], str | None] = lambda value: None  # explains why a JSON value is not of this type
    read_as: Any = None  # the type for msgspec in workers, if it is not `decodes_to`
    to_column: Callable[[Sequence[Any]], pa.Array] | None = None  # makes the column, if Arrow alone cannot
    is_literal: bool = False  # whether a cell of a CSV file holds the value as JSON, like 12.5; otherwise it is a text

    def column(self, values: Sequence[Any]) -> pa.Array:
        """Return an Arrow column of values that a worker has decoded."""
        return self.to_column(values) if self.to_column else pa.array(values, self.arrow())


FIELD_TYPES: dict[str, FieldType] = {
    each.name: each
    for each in (
        FieldType("string", str, _arrow("string"), "string", "Unicode text, of any length"),
        FieldType(
            "number",
            float,
            _arrow("double"),
            "number",
            "an IEEE 754 double: 12.5, -3, 1e6",
            why_not=lambda value: "It is beyond the range of a double." if json_type(value) == "number" else None,
            is_literal=True,
        ),
        FieldType("boolean", bool, _arrow("bool"), "boolean", "true or false; not 0 or 1", is_literal=True),
        FieldType(
            "timestamp",
            Timestamp,
            arrow_timestamp,
            "RFC 3339 date-time with an offset",
            "date and time with an offset, like 2026-06-10T10:58:00Z; kept to the microsecond",
            spelled=is_date_time,
            why_not=_why_no_timestamp,
            read_as=str,
            to_column=timestamps,
        ),
    )
}

_DECODERS = {name: msgspec.json.Decoder(each.decodes_to) for name, each in FIELD_TYPES.items()}


def accepts(type_name: str, value: bytes) -> bool:
    """Return whether a value, given as JSON text, is of the type. The same decoder reads whole records."""
    spelled = FIELD_TYPES[type_name].spelled
    try:
        _DECODERS[type_name].decode(value)
        return spelled is None or spelled(_DECODERS["string"].decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError):  # ValidationError is a DecodeError
        return False
