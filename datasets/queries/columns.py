"""The columns that a query may name, and what it may do with each type."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.queries.query import Column
from datasets.schemas.fields import Field

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


def queryable(fields: Sequence[Field]) -> dict[str, Column]:
    """Return the columns that a query of a dataset with these declared fields may name, by name."""
    declared = [Column(field.name, field.type, field.optional) for field in fields]
    return {column.name: column for column in (*SYSTEM_COLUMNS, *declared)}


def operators(column: Column) -> tuple[str, ...]:
    """Return the operators that a condition on a column may have."""
    found = OPERATORS[column.kind]
    return (*found, *NULL_OPERATORS) if column.optional else found
