"""The conditions of a query as SQL for `datasets.tables.records`, which streams whole records with DataFusion.

DataFusion has no parameters here. So each value is a text in quotes, which DataFusion then reads as the column's type.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from datasets.queries.execution.results import arrow_type
from datasets.queries.execution.sql import quoted
from datasets.queries.query import Column, Condition, Query, Value

_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")


def terms(query: Query, present: Collection[str]) -> tuple[str, ...]:
    """Return SQL terms, all of which are true for exactly the records that the query finds.

    `present` are the table's columns. One that it does not have yet, as its field was declared later, is null.
    """
    timestamp = Column("timestamp", "timestamp")
    limits = [Condition(timestamp, ">=", (query.start,)), Condition(timestamp, "<=", (query.end,))]
    return tuple(_term(each, present) for each in (*limits, *query.where))


def _term(condition: Condition, present: Collection[str]) -> str:
    column, op = condition.column, condition.op
    if column.name not in present:
        return "true" if op == "is_null" else "false"
    name = f"lower({quoted(column.name)})" if column.kind == "uuid" else quoted(column.name)
    if op in ("is_null", "is_not_null"):
        return f"{name} IS {'NOT ' if op == 'is_not_null' else ''}NULL"
    values = [_literal(column, each) for each in condition.values]
    if op in ("in", "not_in"):
        return f"{name} {'NOT ' if op == 'not_in' else ''}IN ({', '.join(values)})"
    if op in _COMPARISONS:
        return f"{name} {op} {values[0]}"
    return f"{'array_has' if column.kind == 'array' else op}({name}, {values[0]})"


def _literal(column: Column, value: Value) -> str:
    """Return a value as a text in quotes, and the type that it has."""
    kind = column.type.removesuffix("[]")
    escaped = _text(value.lower() if kind == "uuid" and isinstance(value, str) else value).replace("'", "''")
    return f"arrow_cast('{escaped}', '{_TYPES.get(kind) or _decimal(kind)}')"


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


_TYPES = {
    **dict.fromkeys(("string", "enum", "uuid"), "Utf8"),
    "number": "Float64",
    "integer": "Int64",
    "boolean": "Boolean",
    "date": "Date32",
    "timestamp": 'Timestamp(Microsecond, Some("UTC"))',
}


def _decimal(kind: str) -> str:
    found = arrow_type(kind)
    return f"Decimal128({found.precision}, {found.scale})"
