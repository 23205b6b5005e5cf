"""A declared field of a schema, and how a schema is written in JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Limit = int | float | str

# Every record has these members, so they are not declared.
ALWAYS_THERE = ("timestamp", "context")
# If a field has a pattern, and the schema sets no limit, its texts may have at most this length.
_MAX_MATCHED_CHARACTERS = 1000


@dataclass(frozen=True)
class Field:
    """One declared field.

    Attributes:
        name: The field's name in records.
        type: The type as the schema writes it, like `string`, `decimal(10,2)` or `integer[]`.
        description: A description for people.
        optional: Whether a record may leave the field out, or have null.
        values: The texts that an enum accepts.
        unit: The unit of the values, for people.
        minimum: The least value of a number, integer, decimal, date or timestamp.
        maximum: The greatest value.
        min_length: The least number of characters of a string, or of elements of an array.
        max_length: The greatest number of characters or elements.
        pattern: A regular expression of RE2. Each string must contain a match.
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

    @classmethod
    def read(cls, name: str, said: Any) -> Field:
        """Return the field of this name: `said` is its type, or an object with the members of a field.

        Raises:
            ValueError: The field cannot be read.
        """
        members = {"type": said} if isinstance(said, str) else said
        if not isinstance(members, Mapping) or not isinstance(members.get("type"), str):
            raise ValueError(f"The field “{name}” needs a type, like “string”.")
        unknown = sorted(set(members) - {each.name for each in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"The field “{name}” has an unknown member “{unknown[0]}”.")
        given: dict[str, Any] = {member: value for member, value in members.items() if value is not None}
        type_name = str(given["type"]).replace(", ", ",")
        if type_name.endswith("?"):
            given["optional"], type_name = True, type_name[:-1]
        if "pattern" in given:
            given.setdefault("max_length", _MAX_MATCHED_CHARACTERS)
        values = tuple(given.pop("values", ()))
        return cls(**{**given, "name": name, "type": type_name, "values": values})

    def declared(self) -> str | dict[str, Any]:
        """Return the shortest declaration of this field, as the service shows it."""
        defaults = {each.name: each.default for each in dataclasses.fields(self)}
        said = {member: getattr(self, member) for member in defaults}
        said = {member: value for member, value in said.items() if member != "name" and value != defaults[member]}
        if said == {"type": self.type}:
            return self.type
        if said == {"type": self.type, "optional": True}:
            return f"{self.type}?"
        return {member: list(value) if isinstance(value, tuple) else value for member, value in said.items()}


def read_fields(declared: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the fields of an object like `{"amount": "number", "note": "string?"}`. Raises ValueError."""
    return tuple(Field.read(name, said) for name, said in declared.items())
