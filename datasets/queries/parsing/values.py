"""Read the values of conditions as strictly as the ingest API reads records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from datasets import strict_json
from datasets.queries.query import Column, Value
from datasets.schemas.checked import NumberText
from datasets.schemas.date_times import Timestamp
from datasets.schemas.decimals import Decimals
from datasets.schemas.derived_types import type_of
from datasets.schemas.field_types import FieldType
from datasets.schemas.fields import Field, shown

MAX_CHARACTERS = 10_000  # the limit for a text in a condition


def read_json(text: bytes) -> Any:
    """Return the Python values of a JSON text. Numbers with a fraction or an exponent keep their spelling.

    `language.parse` also accepts floats. A decimal that was read as a float has at most 17 exact digits.

    Raises:
        NotJson: The text is not JSON.
    """
    return strict_json.read_json(text, parse_float=NumberText)


def as_received(value: Any) -> str:
    """Return how an error shows a value from JSON: its JSON text, or `array` or `object`."""
    if isinstance(value, Mapping | list):
        return "array" if isinstance(value, list) else "object"
    if isinstance(value, NumberText):
        return shown(value)
    try:
        return shown(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):  # an integer of more than 4300 digits
        return type(value).__name__


class Reader:
    """Reads the values with which a condition compares a column."""

    def __init__(self, column: Column, field: Field | None) -> None:
        """`field` is the column's declaration, or None for a system column."""
        kind = column.type.removesuffix("[]")
        # Ignore limits and patterns: older rows may have values outside them.
        self._field_type = type_of(Field("", kind, values=field.values if field else ()))
        self._kind = kind.partition("(")[0]

    @property
    def expected(self) -> str:
        """What a value must be, in the words that errors of records use."""
        return self._field_type.expected

    def read(self, value: Any) -> Value | None:
        """Return the Python value of a value from JSON, or None if it is not of the column's type."""
        text = _json(value)
        return _decoded(self._kind, self._field_type, text) if text and self._field_type.accepts(text) else None

    def why_not(self, value: Any) -> str | None:
        """Return why `read` has refused a value, or None if `expected` already explains it."""
        if isinstance(value, str) and self._kind == "string":
            return _why_not_text(value)
        text = _json(value)
        return self._field_type.why_not(text) if text else None


def _why_not_text(text: str) -> str | None:
    if len(text) > MAX_CHARACTERS:
        return f"A text in a condition has at most {MAX_CHARACTERS:,} characters. This one has {len(text):,}."
    return "The text has half of a surrogate pair, which is not a character."


def _json(value: Any) -> bytes:
    """Return a scalar as JSON text. Return an empty text for any other value, and for a text that is too long."""
    if isinstance(value, NumberText):
        return value.encode()
    if isinstance(value, Mapping | list) or value is None:
        return b""
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        return b""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        return b""


def _decoded(kind: str, field_type: FieldType, text: bytes) -> Value | None:
    if kind == "decimal":
        digits, _, scale = field_type.name.removeprefix("decimal(").removesuffix(")").partition(",")
        return Decimals(int(digits), int(scale)).fit(read_json(text))
    if kind == "number":
        return msgspec.json.decode(text, type=float)
    if kind == "timestamp":
        moment: datetime = msgspec.json.decode(text, type=Timestamp)
        return moment.astimezone(UTC)
    if kind == "date":
        return msgspec.json.decode(text, type=date)
    found: Value = msgspec.json.decode(text)
    return found
