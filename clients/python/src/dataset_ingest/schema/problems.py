"""The problems of a record that does not match its schema, with the texts and in the order of the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dataset_ingest.schema.explanations import json_type
from dataset_ingest.schema.field_types import TIMESTAMP, FieldType
from dataset_ingest.schema.fields import ALWAYS_THERE

MAX_PROBLEMS = 20  # an error lists at most this number of problems
_MAX_CHARACTERS = 100  # an error shows at most this number of characters of a field's name


@dataclass(frozen=True)
class Problem:
    """One problem of a record.

    Attributes:
        error: What is wrong, in the words of the service, like `Invalid number field: amount`.
        code: A stable code for this kind of problem, like `invalid_field`.
        index: The index of the record among the records that were sent together.
        field: The name of the field.
        expected: The type that the field needs.
        received: The JSON type of the value in the record, or `nothing`.
        detail: An explanation, if there is more to say.
    """

    error: str
    code: str
    index: int | None = None
    field: str | None = None
    expected: str | None = None
    received: str | None = None
    detail: str | None = None

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Problem:
        """Read a problem from an answer of the service."""
        return cls(**{name: said.get(name) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]

    def __str__(self) -> str:
        compared = f" (expected {self.expected}, received {self.received})" if self.expected else ""
        return f"{self.error}{compared}{f': {self.detail}' if self.detail else ''}"


def not_json(detail: str) -> Problem:
    """Return the problem of a record that cannot be written as JSON."""
    return Problem("Invalid JSON body", "invalid_json", detail=detail)


def not_an_object(record: bytes) -> Problem:
    """Return the problem of a record that is not a JSON object."""
    received = json_type(record)
    advice = "A batch is one array of objects. Send it to /batch as application/json." if received == "array" else None
    return Problem("Payload must be an object", "not_an_object", expected="object", received=received, detail=advice)


def problems(types: Mapping[str, FieldType], members: Mapping[str, bytes]) -> Iterator[Problem]:
    """Yield the problems of a record. Its members are given as JSON texts."""
    if "timestamp" not in members or not TIMESTAMP.accepts(members["timestamp"]):
        given = members.get("timestamp")
        yield _problem("Invalid or missing timestamp", "invalid_timestamp", "timestamp", TIMESTAMP, given)
    if "context" not in members or json_type(members["context"]) != "object":
        yield _problem("context must be an object", "invalid_context", "context", "object", members.get("context"))
    for name, value in members.items():
        if name not in types and name not in ALWAYS_THERE:
            shown = name[:_MAX_CHARACTERS]
            yield _problem(f"Extra field: {shown}", "extra_field", shown, "nothing", value)
    for name, kind in types.items():
        if name not in members and not kind.optional:
            yield _problem(f"Missing field: {name}", "missing_field", name, kind, None)
    for name, kind in types.items():
        if name in members and not kind.accepts(members[name]):
            yield _problem(f"Invalid {kind.name} field: {name}", "invalid_field", name, kind, members[name])


def _problem(error: str, code: str, field: str, expected: FieldType | str, value: bytes | None) -> Problem:
    kind = expected if isinstance(expected, FieldType) else None
    return Problem(
        error,
        code,
        field=field,
        expected=kind.expected if kind else str(expected),
        received="nothing" if value is None else json_type(value),
        detail=kind.why_not(value) if kind and value is not None else None,
    )
