"""Read the values of conditions as strictly as records are read on ingest."""

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

MAX_SHOWN = 100
MAX_CHARACTERS = 10_000  # of a text in a condition


def read_json(text: bytes) -> Any:
    """Return a JSON text as Python values, with the spelling of each number that has a fraction or an exponent.

    `language.parse` also accepts floats, but then a decimal has at most the 17 digits of a double.

    Raises:
        NotJson: The text is not JSON.
    """
    return strict_json.read_json(text, parse_float=NumberText)


def as_received(value: Any) -> str:
    """Return a value from JSON for an error: its JSON text, or only its type if it has parts."""
    if isinstance(value, Mapping | list):
        return "array" if isinstance(value, list) else "object"
    if isinstance(value, NumberText):
        return shown(value)
    try:
        return shown(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):  # an integer of more than 4300 digits
        return type(value).__name__


class Reader:
    """Reads the values that one column is compared with."""

    def __init__(self, column: Column, field: Field | None) -> None:
        """`field` is the column's declaration, None for a system column."""
        kind = column.type.removesuffix("[]")
        # Limits and patterns do not count: a value outside them is still of the type, and older rows may have it.
        self._field_type = type_of(Field("", kind, values=field.values if field else ()))
        self._kind = kind.partition("(")[0]

    @property
    def expected(self) -> str:
        """What a value must be, as errors of records say it."""
        return self._field_type.expected

    def read(self, value: Any) -> Value | None:
        """Return a value from JSON as Python has it, or None if it is not of the type."""
        text = _json(value)
        return _decoded(self._kind, self._field_type, text) if text and self._field_type.accepts(text) else None

    def why_not(self, value: Any) -> str | None:
        """Return what is wrong with a value that `read` has not taken, if there is more to say than the type."""
        if isinstance(value, str) and self._kind == "string":
            return _why_no_text(value)
        text = _json(value)
        return self._field_type.why_not(text) if text else None


def _why_no_text(text: str) -> str | None:
    if len(text) > MAX_CHARACTERS:
        return f"A text in a condition has at most {MAX_CHARACTERS:,} characters. This one has {len(text):,}."
    return "The text has half of a surrogate pair, which is not a character."


def _json(value: Any) -> bytes:
    """Return a scalar value as JSON text. It is empty if this is not possible, or for a text that is too long."""
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
