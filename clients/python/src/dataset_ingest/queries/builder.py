"""Write a query: which records, which columns, and how they are grouped and ordered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "not_in", "contains", "starts_with", "is_null", "is_not_null"]
_Moment = datetime | str


@dataclass(frozen=True)
class Column:
    """A column of a query's result. Without `as_`, the service chooses its name: `count`, `sum_amount`, `day`."""

    said: Mapping[str, Any]

    def as_(self, name: str) -> Column:
        """Return this column with another name."""
        return Column({**self.said, "as": name})


def _aggregate(name: str, field: str | None) -> Column:
    return Column({"aggregate": name} if field is None else {"aggregate": name, "field": field})


def count() -> Column:
    """Count the records."""
    return _aggregate("count", None)


def count_distinct(field: str) -> Column:
    """Count the different values of a field."""
    return _aggregate("count_distinct", field)


def sum_(field: str) -> Column:
    """Add up a field's values."""
    return _aggregate("sum", field)


def avg(field: str) -> Column:
    """Return the mean of a field's values."""
    return _aggregate("avg", field)


def min_(field: str) -> Column:
    """Return the least value of a field."""
    return _aggregate("min", field)


def max_(field: str) -> Column:
    """Return the greatest value of a field."""
    return _aggregate("max", field)


def median(field: str) -> Column:
    """Return the median of a field's values."""
    return _aggregate("median", field)


def percentile(field: str, percent: Literal[90, 95, 99]) -> Column:
    """Return the value that 90, 95 or 99 percent of a field's values do not exceed."""
    return _aggregate(f"p{percent}", field)


def bucket(
    unit: Literal["minute", "hour", "day", "week", "month"], field: str = "timestamp", *, timezone: str | None = None
) -> Column:
    """Return the beginning of the minute, hour, day, week or month of a time, in UTC or in the given time zone."""
    zone = {} if timezone is None else {"timezone": timezone}
    return Column({"bucket": unit, "field": field, **zone})


@dataclass(frozen=True)
class Result:
    """The result of a query.

    Attributes:
        columns: The name and type of each column.
        rows: The rows.
        truncated: Whether there are more rows than the limit.
        stats: How long the query took, and how much it read.
        cursor: The cursor of the next page, or None if there is no next page.
    """

    columns: Sequence[Mapping[str, str]]
    rows: Sequence[Mapping[str, Any]]
    truncated: bool
    stats: Mapping[str, Any]
    cursor: str | None


class Query:
    """A query of one dataset. Each method returns a new query."""

    def __init__(self, run: Callable[[dict[str, Any]], Result]) -> None:
        self._run = run
        self._said: dict[str, Any] = {}

    def select(self, *columns: str | Column) -> Query:
        """Return these columns: names of fields, aggregates, buckets."""
        said = [{"field": each} if isinstance(each, str) else dict(each.said) for each in columns]
        return self._with(select=[*self._said.get("select", []), *said])

    def where(self, field: str, operator: Operator, value: Any = None) -> Query:
        """Return only records whose field meets this condition. Several conditions must all be true."""
        said = {"field": field, "op": operator}
        if operator not in ("is_null", "is_not_null"):
            said["value"] = value
        return self._with(where=[*self._said.get("where", []), said])

    def group_by(self, *names: str) -> Query:
        """Return one row for each combination of the values of these columns."""
        return self._with(groupBy=[*self._said.get("groupBy", []), *names])

    def order_by(self, name: str, direction: Literal["asc", "desc"] = "asc") -> Query:
        """Order the rows by a column."""
        return self._with(orderBy=[*self._said.get("orderBy", []), {"field": name, "direction": direction}])

    def range(self, begin: _Moment, end: _Moment) -> Query:
        """Return only records whose timestamp is in this range. Without a range, a query reads the last seven days."""
        return self._with(range={"from": begin, "to": end})

    def limit(self, rows: int) -> Query:
        """Return at most `rows` rows. The service returns at most 1,000."""
        return self._with(limit=rows)

    def after(self, cursor: str) -> Query:
        """Return the page that begins at the cursor of a result."""
        return self._with(cursor=cursor)

    def run(self) -> Result:
        """Send the query, and return its result. Raises DatasetError."""
        return self._run(self.said())

    def said(self) -> dict[str, Any]:
        """Return the query as the JSON object that the service expects."""
        said: dict[str, Any] = msgspec.to_builtins(self._said)
        return said

    def _with(self, **members: Any) -> Query:
        new = copy.copy(self)
        new._said = {**self._said, **members}
        return new
