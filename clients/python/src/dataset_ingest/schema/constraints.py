"""Constraints of a field: the least and the greatest value, the length, and a pattern."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from dataset_ingest.schema.explanations import MAX_INTEGER, MIN_INTEGER
from dataset_ingest.schema.field_types import FieldType, base_type, checked, compared, optional
from dataset_ingest.schema.fields import Field, Limit


class _Constraint(NamedTuple):
    """One constraint: whether a decoded value meets it, its words in `expected`, and why a value does not meet it."""

    is_kept: Callable[[Any], bool]
    expected: str
    why_not: str


def type_of(field: Field) -> FieldType:
    """Return the type of a field. It accepts only values that meet the field's constraints. Raises ValueError."""
    kind = base_type(field)
    constraints = list(_constraints(kind, field))
    found = _constrained(kind, field, constraints) if constraints else kind
    return optional(found) if field.optional else found


def _constrained(kind: FieldType, field: Field, constraints: list[_Constraint]) -> FieldType:
    def why_not(value: bytes) -> str | None:
        if not kind.accepts(value):
            return kind.why_not(value)
        decoded = msgspec.json.decode(value, type=compared(kind))
        return next((each.why_not for each in constraints if not each.is_kept(decoded)), None)

    return dataclasses.replace(
        kind,
        decodes_to=_decodes_to(kind, field, constraints),
        expected=", ".join((kind.expected, *(each.expected for each in constraints))),
        why_not=why_not,
    )


def _limit(kind: FieldType, limit: Limit) -> Any:
    """Convert a limit to the Python type of the values, so that they can be compared."""
    try:
        return msgspec.json.decode(json.dumps(limit), type=compared(kind))
    except msgspec.ValidationError as error:
        raise ValueError(f"{limit!r} is not a value of the type {kind.name}.") from error


def _or(kind: FieldType, limit: Limit | None, default: Any) -> Any:
    return default if limit is None else _limit(kind, limit)


def _counted(kind: FieldType, count: int) -> str:
    return f"{count} {'element' if kind.is_array else 'character'}{'' if count == 1 else 's'}"


def _constraints(kind: FieldType, field: Field) -> Iterator[_Constraint]:
    if field.minimum is not None:
        low = _limit(kind, field.minimum)
        yield _Constraint(lambda value: value >= low, f"at least {field.minimum}", f"It is less than {field.minimum}.")
    if field.maximum is not None:
        high = _limit(kind, field.maximum)
        yield _Constraint(lambda value: value <= high, f"at most {field.maximum}", f"It is more than {field.maximum}.")
    if field.min_length is not None:
        shortest = field.min_length
        words = f"at least {_counted(kind, shortest)}"
        yield _Constraint(lambda value: len(value) >= shortest, words, f"It has fewer than {_counted(kind, shortest)}.")
    if field.max_length is not None:
        longest = field.max_length
        words = f"at most {_counted(kind, longest)}"
        yield _Constraint(lambda value: len(value) <= longest, words, f"It has more than {_counted(kind, longest)}.")
    if field.pattern is not None:
        yield _Constraint(_search(field.pattern), f"matching {field.pattern}", "It does not match the pattern.")


def _decodes_to(kind: FieldType, field: Field, constraints: list[_Constraint]) -> Any:
    """Return the type for msgspec. msgspec checks the constraints itself, or calls a function that does."""
    if kind.name == "number":
        return Annotated[float, Meta(ge=_or(kind, field.minimum, None), le=_or(kind, field.maximum, None))]
    if kind.name == "integer":
        low, high = _or(kind, field.minimum, MIN_INTEGER), _or(kind, field.maximum, MAX_INTEGER)
        return Annotated[int, Meta(ge=low, le=high)]
    if kind.is_array or (kind.name == "string" and field.pattern is None):
        return Annotated[kind.decodes_to, Meta(min_length=field.min_length, max_length=field.max_length)]
    decode = _decode_decimal if kind.name.startswith("decimal") else _decode_text
    tests = [each.is_kept for each in constraints]

    def check(value: Any) -> bool:
        decoded = decode(kind, value)
        return decoded is not None and all(is_kept(decoded) for is_kept in tests)

    return checked(check)


def _decode_decimal(kind: FieldType, value: Any) -> Decimal | None:
    return Decimal(value) if kind.decodes_to.check(value) else None


def _decode_text(kind: FieldType, value: Any) -> Any:
    """Convert a string, date or timestamp to the type in which values are compared. Return None if that fails."""
    if type(value) is not str or (kind.spelled is not None and not kind.spelled(value)):
        return None
    try:
        return msgspec.convert(value, compared(kind))
    except msgspec.ValidationError:
        return None


@functools.lru_cache(maxsize=1024)
def _search(pattern: str) -> Callable[[str], bool]:
    """Return a function that says whether a text contains a match.

    The service uses RE2, whose running time is proportional to the length of the text. Without the package google-re2,
    only the service checks patterns: Python's `re` differs from RE2, and needs almost endless time for some patterns.
    """
    try:
        re2: Any = importlib.import_module("re2")
    except ImportError:
        return lambda text: True
    options = re2.Options()
    options.never_capture, options.log_errors = True, False
    program = re2.compile(pattern, options)
    return lambda text: program.search(text.encode()) is not None
