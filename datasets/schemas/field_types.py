"""The table of field types: how each type is decoded, stored, checked and explained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from types import GenericAlias
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from datasets.schemas import explanations
from datasets.schemas.checked import decoder
from datasets.schemas.date_times import EXAMPLE, Timestamp, is_date_time
from datasets.schemas.decimals import NUMBER
from datasets.schemas.explanations import EXAMPLE_DATE, EXAMPLE_UUID, MAX_INTEGER, MIN_INTEGER, json_type


def arrow_timestamp() -> pa.DataType:
    """Return the Arrow type of columns of times."""
    return pa.timestamp("us", "UTC")


def _arrow(alias: str) -> Callable[[], pa.DataType]:
    return lambda: pa.type_for_alias(alias)


def timestamps(texts: Sequence[str | None]) -> pa.Array:
    """Return RFC 3339 texts as an Arrow column of times.

    Arrow reads the common spellings, ten times as fast as a conversion through Python's datetimes. msgspec reads the
    others: lower-case letters, and more than six digits after the second.

    Raises:
        msgspec.ValidationError: A text is not a timestamp.
    """
    try:
        return pa.array(texts, pa.string()).cast(arrow_timestamp())
    except pa.ArrowInvalid:
        return pa.array(msgspec.convert(texts, list[Timestamp | None]), arrow_timestamp())


def json_texts(values: Sequence[Any]) -> pa.Array:
    """Return JSON texts as a column.

    Join and split them by NUL, which JSON never holds: this makes no Python object for each row.
    """
    joined = pa.array([b"\0".join(values)], pa.binary()).cast(pa.string())
    return pc.split_pattern(joined, "\0").values


@dataclass(frozen=True, eq=False)
class FieldType:
    """One type of the schema language: a row of FIELD_TYPES, or a type that is made from a row for a field."""

    name: str
    decodes_to: Any  # the type for msgspec, which accepts nothing else
    arrow: Callable[[], pa.DataType]  # returns the type of the column
    expected: str  # the type's name in errors
    help: str  # the explanation in the admin
    example: Any  # a value of the type
    json_schema: Mapping[str, Any] = field(kw_only=True)  # describes the values in JSON Schema
    spelled: Callable[[str], bool] | None = None  # checks the JSON strings that the decoder has accepted
    why_not: Callable[[bytes], str | None] = lambda value: None  # explains why a JSON value is not of this type
    read_as: Any = None  # the type for msgspec in workers, if it is not `decodes_to`
    to_column: Callable[[Sequence[Any]], pa.Array] | None = None  # makes the column, if Arrow alone cannot
    optional: bool = False  # whether a record may leave the field out, or have null
    is_array: bool = False
    is_literal: bool = False  # whether a cell of a CSV file holds the value as JSON, like 12.5; otherwise it is a text

    @property
    def read(self) -> Any:
        """The type for msgspec in workers."""
        return self.decodes_to if self.read_as is None else self.read_as

    @cached_property
    def _accepting(self) -> msgspec.json.Decoder[Any]:
        return decoder(self.decodes_to)

    @cached_property
    def _reading(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self.read)

    def accepts(self, value: bytes) -> bool:
        """Return whether a JSON text is a value of the type. The decoders of whole records make the same checks."""
        try:
            self._accepting.decode(value)
            return self.spelled is None or all(map(self.spelled, texts_of(self._reading.decode(value))))
        except (msgspec.DecodeError, UnicodeDecodeError):  # ValidationError is a DecodeError
            return False

    def column(self, values: Sequence[Any]) -> pa.Array:
        """Return an Arrow column of values that a worker has decoded."""
        return self.to_column(values) if self.to_column else pa.array(values, self.arrow())


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts of a decoded value: itself, the elements of an array, or nothing for null."""
    if isinstance(value, str):
        yield value
    elif value is not None:
        yield from value


def _why_no_array(element: FieldType) -> Callable[[bytes], str | None]:
    def why_not(value: bytes) -> str | None:
        if json_type(value) != "array":
            return None
        for index, each in enumerate(msgspec.json.decode(value, type=list[Raw])):
            text = bytes(each)
            if not element.accepts(text):
                why = element.why_not(text) or f"expected {element.expected}, received {json_type(text)}."
                return f"Element {index}, counted from 0: {why}"
        return None

    return why_not


def _array_of(element: FieldType, to_column: Callable[[Sequence[Any]], pa.Array] | None = None) -> FieldType:
    """Return the type of arrays of another type. `to_column` makes the column, if Arrow alone cannot."""
    return FieldType(
        f"{element.name}[]",
        GenericAlias(list, (element.decodes_to,)),
        lambda: pa.list_(element.arrow()),
        f"array, each element: {element.expected}",
        f"a list of values, each of the type {element.name}, without null",
        [element.example],
        json_schema={"type": "array", "items": element.json_schema},
        spelled=element.spelled,
        why_not=_why_no_array(element),
        read_as=GenericAlias(list, (element.read,)),
        to_column=to_column,
        is_array=True,
        is_literal=True,
    )


def _lists_of_timestamps(lists: Sequence[list[str] | None]) -> pa.Array:
    """Return lists of RFC 3339 texts as a column of lists of times. All texts are read together."""
    empty: list[str] = []
    texts = [text for each in lists for text in each or empty]
    ends = itertools.accumulate((len(each or empty) for each in lists), initial=0)
    missing = pa.array([each is None for each in lists], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), timestamps(texts), mask=missing)


_STRING = FieldType(
    "string", str, _arrow("string"), "string", "Unicode text, of any length", "text", json_schema={"type": "string"}
)
_NUMBER = FieldType(
    "number",
    float,
    _arrow("double"),
    "number",
    "an IEEE 754 double: 12.5, -3, 1e6",
    42.5,
    json_schema={"type": "number"},
    why_not=explanations.why_no_number,
    is_literal=True,
)
_TIMESTAMP = FieldType(
    "timestamp",
    Timestamp,
    arrow_timestamp,
    "RFC 3339 date-time with an offset",
    f"date and time with an offset, like {EXAMPLE}; kept to the microsecond",
    "2026-06-01T08:00:00Z",
    json_schema={"type": "string", "format": "date-time"},
    spelled=is_date_time,
    why_not=explanations.why_no_timestamp,
    read_as=str,
    to_column=timestamps,
)
_INTEGER = FieldType(
    "integer",
    Annotated[int, Meta(ge=MIN_INTEGER, le=MAX_INTEGER)],
    _arrow("int64"),
    "integer",
    "a whole number of 64 bits: 42, -3; not 1.0 or 1e6",
    42,
    json_schema={"type": "integer", "minimum": MIN_INTEGER, "maximum": MAX_INTEGER},
    why_not=explanations.why_no_integer,
    read_as=int,
    is_literal=True,
)
_UUID = r"\A[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"

# The rows of these types have what all decimals, or all enums, share. `derived_types` adds what a field declares.
DECIMAL, ENUM = "decimal(p,s)", "enum"

FIELD_TYPES: dict[str, FieldType] = {
    each.name: each
    for each in (
        _STRING,
        _NUMBER,
        FieldType(
            "boolean",
            bool,
            _arrow("bool"),
            "boolean",
            "true or false; not 0 or 1",
            True,
            json_schema={"type": "boolean"},
            is_literal=True,
        ),
        _TIMESTAMP,
        _INTEGER,
        FieldType(
            DECIMAL,
            None,  # depends on p and s, like the column
            _arrow("null"),
            DECIMAL,
            "an exact number of up to p digits, s of them after the point: decimal(10,2) for 12345678.90",
            None,
            json_schema={"type": ["number", "string"], "pattern": f"^{NUMBER}$"},  # a pattern concerns only strings
            read_as=Decimal,
        ),
        FieldType(
            "date",
            date,
            _arrow("date32"),
            "RFC 3339 full-date",
            f"a day, like {EXAMPLE_DATE}",
            EXAMPLE_DATE,
            json_schema={"type": "string", "format": "date"},
            why_not=explanations.why_no_date,
        ),
        FieldType(
            "uuid",
            Annotated[str, Meta(pattern=_UUID)],
            _arrow("string"),
            "UUID",
            f"32 hexadecimal digits with hyphens, like {EXAMPLE_UUID}; stored as sent",
            EXAMPLE_UUID,
            json_schema={"type": "string", "format": "uuid"},
            why_not=explanations.why_no_uuid,
            read_as=str,
        ),
        FieldType(
            "json",
            Raw,
            _arrow("string"),
            "JSON value",
            "any JSON value, null too, of any depth; stored as the text that was sent",
            {"any": ["value"]},
            json_schema={},
            to_column=json_texts,
            is_literal=True,
        ),
        FieldType(
            ENUM,
            None,
            _arrow("string"),
            "one of its values",
            "a text of a list in the schema",
            None,
            json_schema={"type": "string"},
            read_as=str,
        ),
        _array_of(_STRING),
        _array_of(_NUMBER),
        _array_of(_INTEGER),
        _array_of(_TIMESTAMP, _lists_of_timestamps),
    )
}
