"""The columns that a query may name, and what it may do with each type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from datasets.queries.query import Column
from datasets.schemas.fields import Field

if TYPE_CHECKING:  # processes that run queries need no Django
    from datasets.models import Dataset

# The columns that every table has and a query may name.
SYSTEM_COLUMNS = (
    Column("timestamp", "timestamp"),
    Column("ingested_at", "timestamp"),
    Column("id", "string"),
    Column("__traceId", "string"),
    Column("context", "context"),
)

_EQUALITY = ("=", "!=")
_SETS = ("in", "not_in")
_ORDER = ("<", "<=", ">", ">=")
# By the type without its arguments. Fields that are optional have NULL_OPERATORS, too.
OPERATORS: dict[str, tuple[str, ...]] = {
    "string": (*_EQUALITY, *_SETS, "contains", "starts_with"),
    "number": (*_EQUALITY, *_ORDER, *_SETS),
    "integer": (*_EQUALITY, *_ORDER, *_SETS),
    "decimal": (*_EQUALITY, *_ORDER, *_SETS),
    "timestamp": (*_EQUALITY, *_ORDER, *_SETS),
    "date": (*_EQUALITY, *_ORDER, *_SETS),
    "boolean": _EQUALITY,
    "enum": (*_EQUALITY, *_SETS),
    "uuid": (*_EQUALITY, *_SETS),
    "array": ("contains",),
    "json": (),
    "context": (),
}
NULL_OPERATORS = ("is_null", "is_not_null")

_NUMBERS = ("number", "integer", "decimal")
_SCALARS = tuple(kind for kind in OPERATORS if kind not in ("array", "json", "context"))
_ORDERED = (*_NUMBERS, "string", "enum", "uuid", "timestamp", "date")
PERCENTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
# By the function: the types of the columns that it takes.
AGGREGATES: dict[str, tuple[str, ...]] = {
    "count": (*_SCALARS, "array", "json"),
    "count_distinct": _SCALARS,
    "sum": _NUMBERS,
    "avg": _NUMBERS,
    "min": _ORDERED,
    "max": _ORDERED,
    **dict.fromkeys(PERCENTILES, _NUMBERS),
}
# What rows may be grouped and sorted by.
COMPARABLE = _SCALARS
BUCKETS = ("minute", "hour", "day", "week", "month")


def fields_of(dataset: Dataset) -> list[Field] | None:
    """Return the fields that a query of a dataset may name: those of its latest version. None if it has no schema.

    Rows of earlier versions are in the table, too. So a field is optional if it was missing or optional in one of
    them, and an enum has the values of all versions.
    """
    versions = [version.field_list() for version in dataset.versions.order_by("-number")]
    if not versions:
        return None
    earlier = [{field.name: field for field in fields} for fields in versions[1:]]
    return [_over_time(field, [each.get(field.name) for each in earlier]) for field in versions[0]]


def _over_time(field: Field, earlier: Sequence[Field | None]) -> Field:
    optional = field.optional or any(each is None or each.optional for each in earlier)
    values = dict.fromkeys(value for each in (field, *earlier) if each for value in each.values)
    return replace(field, optional=optional, values=tuple(values))


def queryable(fields: Sequence[Field]) -> dict[str, Column]:
    """Return the columns that a query of a dataset with these declared fields may name, by name."""
    declared = [Column(field.name, field.type, field.optional) for field in fields]
    return {column.name: column for column in (*SYSTEM_COLUMNS, *declared)}


def operators(column: Column) -> tuple[str, ...]:
    """Return the operators that a condition on a column may have."""
    found = OPERATORS[column.kind]
    return (*found, *NULL_OPERATORS) if column.optional else found
