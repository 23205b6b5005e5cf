"""The type of a field: a row of FIELD_TYPES, or a type that is made from a row and from what the field declares."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from datasets.schemas.checked import checked
from datasets.schemas.constraints import constrained, constraint_problem
from datasets.schemas.decimals import MAX_DIGITS, Decimals
from datasets.schemas.explanations import json_type
from datasets.schemas.field_types import DECIMAL, ENUM, FIELD_TYPES, FieldType, json_texts
from datasets.schemas.fields import Field, is_storable, shown

_DECIMAL = re.compile(r"decimal\(([0-9]{1,3}),([0-9]{1,3})\)").fullmatch
_MAX_SHOWN = 200  # the maximum number of characters of an enum's values in an error
MAX_VALUES = 1000  # the maximum number of values of an enum
MAX_VALUE_CHARACTERS = 200


def type_of(field: Field) -> FieldType:
    """Return the type of a field. Call this only if `type_problem` returns None."""
    said = dataclasses.replace(field, name="", description="", unit="")  # these do not change the type
    is_plain = said == Field("", field.type) and field.type in FIELD_TYPES
    return FIELD_TYPES[field.type] if is_plain else _derived(said)


@lru_cache(maxsize=4096)
def _derived(field: Field) -> FieldType:
    found = constrained(_unconstrained(field), field)
    return _optional(found) if field.optional else found


def _unconstrained(field: Field) -> FieldType:
    """Return the type of a field as if it were required and had no constraints."""
    decimal = _DECIMAL(field.type)
    if decimal:
        return _decimal(field.type, Decimals(int(decimal[1]), int(decimal[2])))
    return _enum(field.values) if field.type == ENUM else FIELD_TYPES[field.type]


def _decimal(name: str, numbers: Decimals) -> FieldType:
    return dataclasses.replace(
        FIELD_TYPES[DECIMAL],
        name=name,
        decodes_to=checked(lambda value: numbers.fit(value) is not None),
        arrow=lambda: pa.decimal128(numbers.digits, numbers.scale),
        expected=f"{name}, as a number or a string",
        example=f"{Decimal(1).scaleb(-numbers.scale):f}",
        why_not=numbers.why_not,
        to_column=numbers.column,
    )


def _enum(values: Sequence[str]) -> FieldType:
    def why_not(value: bytes) -> str | None:
        sent = json.loads(value) if json_type(value) == "string" else None
        like = [each for each in values if isinstance(sent, str) and each.casefold() == sent.strip().casefold()]
        return f"Write it exactly like {_quoted(like[0])}." if like else None

    return dataclasses.replace(
        FIELD_TYPES[ENUM],
        decodes_to=Literal[tuple(values)],
        expected=f"one of {_listed(values)}",
        example=values[0],
        json_schema={"enum": list(values)},
        why_not=why_not,
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _listed(values: Sequence[str]) -> str:
    """Return the values in quotes: all of them, or the first ones and the number of the others."""
    shown: list[str] = []
    for each in values:
        if sum(map(len, shown)) + len(each) > _MAX_SHOWN and shown:
            return f"{', '.join(shown)} and {len(values) - len(shown)} others"
        shown.append(_quoted(each))
    return ", ".join(shown)


def _optional(found: FieldType) -> FieldType:
    is_json = found.name == "json"  # null is a JSON value already
    return dataclasses.replace(
        found,
        decodes_to=found.decodes_to if is_json else found.decodes_to | None,
        read_as=found.read if is_json else found.read | None,
        expected=f"{found.expected}, or null",
        json_schema={} if is_json else {"anyOf": [found.json_schema, {"type": "null"}]},
        to_column=_json_texts_or_null if is_json else found.to_column,
        optional=True,
    )


def _json_texts_or_null(values: Sequence[Any]) -> pa.Array:
    texts = json_texts([b"null" if each is None else each for each in values])
    return pc.if_else(pc.equal(texts, "null"), pa.scalar(None, pa.string()), texts)


def type_problem(field: Field) -> str | None:
    """Return why a field has no type, and what to write instead, or None if it has one."""
    decimal = _DECIMAL(field.type)
    if decimal:
        digits, scale = int(decimal[1]), int(decimal[2])
        if not 1 <= digits <= MAX_DIGITS or scale > digits:
            return f"write decimal(p,s) with p from 1 to {MAX_DIGITS} and s from 0 to p, not {field.type}."
    elif field.type == DECIMAL or field.type not in FIELD_TYPES:
        if field.type.startswith("decimal"):
            return f"write how many digits in all, and after the point, like decimal(10,2), not {field.type}."
        return f"there is no type “{shown(field.type)}”. Types: {', '.join(FIELD_TYPES)}."
    if field.type == ENUM and (problem := _values_problem(field.values)):
        return problem
    if field.values and field.type != ENUM:
        return f"only an {ENUM} has values, {field.type} has none."
    return constraint_problem(_unconstrained(field), field)


def _values_problem(values: Sequence[str]) -> str | None:
    if not values:
        return 'an enum needs its values, like {"type": "enum", "values": ["a", "b"]}.'
    if len(values) > MAX_VALUES:
        return f"it has {len(values)} values. The limit is {MAX_VALUES}."
    if len(set(values)) < len(values):
        return "a value is there twice."
    if any(len(each) > MAX_VALUE_CHARACTERS for each in values):
        return f"a value may have at most {MAX_VALUE_CHARACTERS} characters."
    return None if all(map(is_storable, values)) else "a value has characters that cannot be stored."
