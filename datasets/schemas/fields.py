"""A declared field, as a schema version stores it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Limit = int | float | str

# Every record has these fields, so they are not declared.
ALWAYS_THERE = ("timestamp", "context")

# PostgreSQL cannot store NUL or a lone surrogate in a text.
_TEXT = re.compile("[^\\x00\\ud800-\\udfff]*").fullmatch


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field of a schema version.

    Attributes:
        name: The field's name in records, and the name of its column.
        type: The type as it is written in the schema, like `string`, `decimal(10,2)` or `integer[]`.
        description: For people.
        optional: Whether a record may leave the field out, or have null.
        values: The texts that an enum accepts.
        unit: The unit of the values, for people.
        minimum: The least value of a number, integer, decimal, date or timestamp, in its JSON form.
        maximum: The greatest value.
        min_length: The least number of characters of a string, or of elements of an array.
        max_length: The greatest number of characters or elements.
        pattern: A regular expression in RE2's syntax. Each string must contain a match.
    """

    name: str
    type: str
    description: str = ""
    optional: bool = False
    values: tuple[str, ...] = ()
    unit: str = ""
    minimum: Limit | None = None
    maximum: Limit | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a schema version stores: name, type, description, and each other attribute with a value."""
        always = {"name": self.name, "type": self.type, "description": self.description}
        others = {name: getattr(self, name) for name, default in _DEFAULTS.items() if getattr(self, name) != default}
        return always | {name: list(value) if isinstance(value, tuple) else value for name, value in others.items()}

    def shortest(self) -> str | dict[str, Any]:
        """Return the shortest declaration of the field, without its name: only the type, if that is enough."""
        said = {member: value for member, value in self.as_json().items() if member != "name" and value != ""}
        if said == {"type": self.type}:
            return self.type
        return f"{self.type}?" if said == {"type": self.type, "optional": True} else said

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Field:
        """Return the field that `as_json` has described."""
        said: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        return cls(**said)


_DEFAULTS = {
    each.name: each.default for each in dataclasses.fields(Field) if each.name not in ("name", "type", "description")
}


def is_storable(text: str) -> bool:
    """Return whether the database can store a text."""
    return _TEXT(text) is not None


def shown(name: str) -> str:
    """Return at most 100 characters of a name, for a page. Escape lone surrogates, because UTF-8 cannot encode them."""
    return name[:100].encode(errors="backslashreplace").decode()
