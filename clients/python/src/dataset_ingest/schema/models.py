"""Read the fields of a dataset from a dataclass, a pydantic model or a msgspec Struct."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Union

import msgspec

from dataset_ingest.schema.fields import ALWAYS_THERE, Field

_TYPES: dict[Any, str] = {
    str: "string",
    float: "number",
    int: "integer",
    bool: "boolean",
    datetime: "timestamp",
    date: "date",
    uuid.UUID: "uuid",
    Any: "json",
    object: "json",
    dict: "json",
}
_ARRAYS = ("string", "number", "integer", "timestamp")
# The names of constraints in msgspec.Meta, pydantic and annotated_types -> our names.
_MEMBERS = {
    "ge": "minimum",
    "le": "maximum",
    "min_length": "min_length",
    "max_length": "max_length",
    "pattern": "pattern",
    "description": "description",
}


def fields_of(model: type) -> tuple[Field, ...]:
    """Return the fields of a model. `timestamp` and `context` are left out.

    `Annotated[Decimal, "decimal(10,2)"]` gives a field a type of the schema language.

    Raises:
        TypeError: The class is not a model, or a type has no counterpart in the schema language.
    """
    hints = typing.get_type_hints(model, include_extras=True)
    found = []
    for attribute, name, extras in _names(model):
        if name not in ALWAYS_THERE:
            try:
                found.append(Field.read(name, _declared(hints[attribute], extras)))
            except TypeError as error:
                raise TypeError(f"{model.__name__}.{attribute}: {error}") from None
    return tuple(found)


def _names(model: type) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Yield each attribute of a model, its name in JSON, and further metadata."""
    if issubclass(model, msgspec.Struct):
        for each in msgspec.structs.fields(model):
            yield each.name, each.encode_name, ()
    elif dataclasses.is_dataclass(model):
        for field in dataclasses.fields(model):
            yield field.name, field.name, ()
    elif isinstance(getattr(model, "model_fields", None), Mapping):
        for name, info in model.model_fields.items():  # type: ignore[attr-defined]
            yield name, info.serialization_alias or info.alias or name, [info, *info.metadata]
    else:
        raise TypeError(f"{model.__name__} is no dataclass, pydantic model or msgspec Struct.")


def _declared(hint: Any, extras: Sequence[Any]) -> dict[str, Any]:
    """Return the members of the field that a type hint declares."""
    kind, metadata = _unwrapped(hint)
    metadata = [*metadata, *extras]
    said: dict[str, Any] = {}
    if isinstance(kind, (types.UnionType,)) or typing.get_origin(kind) is Union:
        rest = [each for each in typing.get_args(kind) if each is not type(None)]
        if len(rest) != 1:
            raise TypeError(f"{hint} has several types. A field has one; use Any for any JSON value.")
        said["optional"] = len(rest) < len(typing.get_args(kind))
        kind, more = _unwrapped(rest[0])
        metadata += more
    written = [each for each in metadata if isinstance(each, str)]
    said |= {"type": written[0]} if written else _type(kind)
    for each in metadata:
        for theirs, ours in _MEMBERS.items():
            value = getattr(each, theirs, None)
            if value is not None and not callable(value):
                said[ours] = value.isoformat() if isinstance(value, date) else value
    return {**said, "optional": bool(said.get("optional"))}


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    if typing.get_origin(hint) is Annotated:
        kind, *metadata = typing.get_args(hint)
        return kind, metadata
    return hint, []


def _type(kind: Any) -> dict[str, Any]:
    """Return the type, and the values of an enum, for a type of Python."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum([each.value for each in kind])
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return _enum(list(arguments))
    if kind is Decimal:
        raise TypeError('a Decimal needs its digits, like Annotated[Decimal, "decimal(10,2)"].')
    if origin is list:
        element = _type(_unwrapped(arguments[0])[0])["type"]
        if element in _ARRAYS:
            return {"type": f"{element}[]"}
    found = _TYPES.get(origin or kind)
    if found is None:
        raise TypeError(f"{kind} has no counterpart in the schema language. Use Any for any JSON value.")
    return {"type": found}


def _enum(values: list[Any]) -> dict[str, Any]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError("an enum has texts as its values.")
    return {"type": "enum", "values": values}
