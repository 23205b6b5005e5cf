"""The columns that a query may name, and the operators and aggregates of each type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from datasets.queries.query import Column
from datasets.schemas.fields import Field

if TYPE_CHECKING:  # processes that run queries need no Django
    from datasets.models import Dataset

# Every table has these columns. A query may name them.
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
# The operators of each type. The types are without their arguments. An optional field also has NULL_OPERATORS.
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
# For each function, the types of the columns that it accepts.
AGGREGATES: dict[str, tuple[str, ...]] = {
    "count": (*_SCALARS, "array", "json"),
    "count_distinct": _SCALARS,
    "sum": _NUMBERS,
    "avg": _NUMBERS,
    "min": _ORDERED,
    "max": _ORDERED,
    **dict.fromkeys(PERCENTILES, _NUMBERS),
}
# The types of the columns by which rows may be grouped and sorted.
COMPARABLE = _SCALARS
BUCKETS = ("minute", "hour", "day", "week", "month")


def fields_of(dataset: Dataset) -> list[Field] | None:
    """Return the declared fields that a query may name, or None without a schema.

    These are the fields of the latest schema version.

    The table also has rows of earlier versions. So a field counts as optional if it was missing or optional in
    an earlier version, and an enum has the values of all versions.
    """
    versions = [version.field_list() for version in dataset.versions.order_by("-number")]
    if not versions:
        return None
    earlier = [{field.name: field for field in fields} for fields in versions[1:]]
    return [_merged(field, [each.get(field.name) for each in earlier]) for field in versions[0]]


def _merged(field: Field, earlier: Sequence[Field | None]) -> Field:
    """Return `field`, changed so that it also describes older rows.

    `earlier` has the field as each earlier version declared it, or None for a version without the field.
    """
    optional = field.optional or any(each is None or each.optional for each in earlier)
    values = dict.fromkeys(value for each in (field, *earlier) if each for value in each.values)
    return replace(field, optional=optional, values=tuple(values))


def queryable(fields: Sequence[Field]) -> dict[str, Column]:
    """Return the columns that a query may name, by name: the system columns, and one for each declared field."""
    declared = [Column(field.name, field.type, field.optional) for field in fields]
    return {column.name: column for column in (*SYSTEM_COLUMNS, *declared)}


def operators(column: Column) -> tuple[str, ...]:
    """Return the operators that a condition on a column may have."""
    of_type = OPERATORS[column.kind]
    return (*of_type, *NULL_OPERATORS) if column.optional else of_type
