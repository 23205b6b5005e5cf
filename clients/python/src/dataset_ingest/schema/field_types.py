"""The types of the schema language: what msgspec must accept for each type, and how errors describe it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from types import GenericAlias
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Raw

from dataset_ingest.schema import explanations
from dataset_ingest.schema.date_times import Timestamp, is_date_time
from dataset_ingest.schema.decimals import MAX_DIGITS, Decimals, NumberText
from dataset_ingest.schema.explanations import MAX_INTEGER, MIN_INTEGER, json_type
from dataset_ingest.schema.fields import Field

_DECIMAL = re.compile(r"decimal\(([0-9]{1,3}),([0-9]{1,3})\)").fullmatch
_UUID = r"\A[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"
_MAX_SHOWN = 200  # an error shows about this number of characters of an enum's values


class Checked:
    """The base of types whose values a function checks, because msgspec cannot check them."""

    check: ClassVar[Callable[[Any], bool]]


def checked(check: Callable[[Any], bool]) -> Any:
    """Return a type for msgspec. It accepts a value from JSON if `check` returns True for it."""
    return type("Accepted", (Checked,), {"check": staticmethod(check)})


def _decoded(kind: Any, value: Any) -> Any:
    if not kind.check(value):
        raise ValueError("The value is not accepted.")  # msgspec makes a ValidationError of it
    return kind()


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return a decoder for the type `kind`, which may contain types from `checked`."""
    return msgspec.json.Decoder(kind, dec_hook=_decoded, float_hook=NumberText)


@dataclass(frozen=True, eq=False)
class FieldType:
    """A type: its name, its description in errors, and which JSON values have this type."""

    name: str
    decodes_to: Any  # the type for msgspec. It accepts the values of this type, and texts that `spelled` refuses
    expected: str
    spelled: Callable[[str], bool] | None = None  # checks the texts that msgspec has accepted
    why_not: Callable[[bytes], str | None] = lambda value: None  # explains why a JSON value is not of this type
    read: Any = None  # the type for msgspec that reads the texts for `spelled`
    optional: bool = False
    is_array: bool = False

    @cached_property
    def _accepting(self) -> msgspec.json.Decoder[Any]:
        return decoder(self.decodes_to)

    def accepts(self, value: bytes) -> bool:
        """Return whether a value, given as JSON text, is of the type."""
        try:
            self._accepting.decode(value)
            if self.spelled is None:
                return True
            return all(map(self.spelled, texts_of(msgspec.json.decode(value, type=self.read))))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts of a decoded value: the value itself, the elements of an array, or nothing for null."""
    if isinstance(value, str):
        yield value
    elif value is not None:
        yield from value


def _array_of(element: FieldType) -> FieldType:
    def why_not(value: bytes) -> str | None:
        if json_type(value) != "array":
            return None
        for index, each in enumerate(msgspec.json.decode(value, type=list[Raw])):
            text = bytes(each)
            if not element.accepts(text):
                why = element.why_not(text) or f"expected {element.expected}, received {json_type(text)}."
                return f"Element {index}, counted from 0: {why}"
        return None

    return FieldType(
        f"{element.name}[]",
        GenericAlias(list, (element.decodes_to,)),
        f"array, each element: {element.expected}",
        spelled=element.spelled,
        why_not=why_not,
        read=GenericAlias(list, (element.read or Any,)),
        is_array=True,
    )


_INTEGER = Annotated[int, Meta(ge=MIN_INTEGER, le=MAX_INTEGER)]
TIMESTAMP = FieldType(
    "timestamp",
    Timestamp,
    "RFC 3339 date-time with an offset",
    spelled=is_date_time,
    why_not=explanations.why_no_timestamp,
    read=str,
)
_SCALARS = (
    FieldType("string", str, "string"),
    FieldType("number", float, "number", why_not=explanations.why_no_number),
    TIMESTAMP,
    FieldType("integer", _INTEGER, "integer", why_not=explanations.why_no_integer),
)
FIELD_TYPES = {
    each.name: each
    for each in (
        *_SCALARS,
        *map(_array_of, _SCALARS),
        FieldType("boolean", bool, "boolean"),
        FieldType("date", date, "RFC 3339 full-date", why_not=explanations.why_no_date),
        FieldType("uuid", Annotated[str, Meta(pattern=_UUID)], "UUID", why_not=explanations.why_no_uuid),
        FieldType("json", Raw, "JSON value"),
    )
}


def base_type(field: Field) -> FieldType:
    """Return the type of a field as if it were required and had no constraints.

    Raises:
        ValueError: There is no such type.
    """
    decimal = _DECIMAL(field.type)
    if decimal:
        digits, scale = int(decimal[1]), int(decimal[2])
        if not 1 <= digits <= MAX_DIGITS or scale > digits:
            raise ValueError(f"The field “{field.name}”: {field.type} has 1 to {MAX_DIGITS} digits in all.")
        return _decimal(field.type, Decimals(digits, scale))
    if field.type == "enum":
        if not field.values:
            raise ValueError(f"The field “{field.name}” is an enum and needs its values.")
        return _enum(field.values)
    if field.type not in FIELD_TYPES:
        names = ", ".join(sorted({*FIELD_TYPES, "decimal(p,s)", "enum"}))
        raise ValueError(f"The field “{field.name}”: there is no type “{field.type}”. Types: {names}.")
    return FIELD_TYPES[field.type]


def optional(kind: FieldType) -> FieldType:
    """Return a type that also accepts null."""
    accepts = kind.decodes_to if kind.name == "json" else kind.decodes_to | None
    read = None if kind.read is None else kind.read | None
    return dataclasses.replace(kind, decodes_to=accepts, read=read, expected=f"{kind.expected}, or null", optional=True)


def _decimal(name: str, numbers: Decimals) -> FieldType:
    accepted = checked(lambda value: numbers.fit(value) is not None)
    return FieldType(name, accepted, f"{name}, as a number or a string", why_not=numbers.why_not)


def _enum(values: Sequence[str]) -> FieldType:
    def why_not(value: bytes) -> str | None:
        sent = json.loads(value) if json_type(value) == "string" else None
        like = [each for each in values if isinstance(sent, str) and each.casefold() == sent.strip().casefold()]
        return f"Write it exactly like {_quoted(like[0])}." if like else None

    return FieldType("enum", Literal[tuple(values)], f"one of {_listed(values)}", why_not=why_not)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _listed(values: Sequence[str]) -> str:
    """Return all values in quotes, or the first values in quotes and the number of the other values."""
    shown: list[str] = []
    for each in values:
        if sum(map(len, shown)) + len(each) > _MAX_SHOWN and shown:
            return f"{', '.join(shown)} and {len(values) - len(shown)} others"
        shown.append(_quoted(each))
    return ", ".join(shown)


# The Python type in which values are compared with the limits of a field.
_COMPARED: dict[str, Any] = {"number": float, "integer": int, "date": date, "timestamp": Timestamp}


def compared(kind: FieldType) -> Any:
    """Return the type for msgspec that decodes values so that constraints can be checked."""
    if kind.is_array:
        return list[Any]
    return Decimal if kind.name.startswith("decimal") else _COMPARED.get(kind.name, str)
