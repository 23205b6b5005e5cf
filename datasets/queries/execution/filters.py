"""The conditions of a query as SQL for `datasets.tables.records`, which streams whole records with DataFusion.

There, DataFusion accepts no parameters. So each value is a quoted text, which the SQL casts to the column's type.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from datasets.queries.execution import sql
from datasets.queries.execution.results import arrow_type
from datasets.queries.query import Column, Condition, Query, Value

_TYPES = {
    **dict.fromkeys(("string", "enum", "uuid"), "Utf8"),
    "number": "Float64",
    "integer": "Int64",
    "boolean": "Boolean",
    "date": "Date32",
    "timestamp": 'Timestamp(Microsecond, Some("UTC"))',
}


def terms(query: Query, present: Collection[str]) -> tuple[str, ...]:
    """Return SQL terms. The query finds exactly the records for which all of them are true.

    `present` has the names of the table's columns. A declared column that the table does not have yet is null.
    """
    timestamp = Column("timestamp", "timestamp")
    limits = [Condition(timestamp, ">=", (query.start,)), Condition(timestamp, "<=", (query.end,))]
    return tuple(_term(each, present) for each in (*limits, *query.where))


def _term(condition: Condition, present: Collection[str]) -> str:
    if condition.column.name not in present:
        return "true" if condition.op == "is_null" else "false"
    values = [_literal(condition.column, each) for each in sql.comparable(condition)]
    return sql.term(condition, values, contains="array_has")


def _literal(column: Column, value: Value) -> str:
    """Return a value as a quoted text with a cast to the column's type."""
    kind = column.type.removesuffix("[]")
    arrow = _decimal(kind) if kind.startswith("decimal(") else _TYPES[kind]
    return f"arrow_cast({sql.literal(_text(value))}, '{arrow}')"


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


def _decimal(kind: str) -> str:
    found = arrow_type(kind)
    return f"Decimal128({found.precision}, {found.scale})"
