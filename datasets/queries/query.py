"""A query that was checked: what `language.parse` returns, and `engine.run` answers. All of it can be pickled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

Value = str | float | int | bool | Decimal | date | datetime


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table that a query may name.

    Attributes:
        name: The name in records and of the column.
        type: The type as a schema writes it, like `decimal(10,2)`.
        optional: Whether its declaration allows null. Older rows of a required field may still be null.
    """

    name: str
    type: str
    optional: bool = False

    @property
    def kind(self) -> str:
        """The type without its arguments: `decimal` for `decimal(10,2)`, `array` for `string[]`."""
        if self.type.endswith("[]"):
            return "array"
        return self.type.partition("(")[0]


@dataclass(frozen=True, slots=True)
class Plain:
    """A column as it is, under a name. With `max_characters`, only the beginning of each value, as a text."""

    name: str
    column: Column
    max_characters: int | None = None

    @property
    def type(self) -> str:
        """The type of the values. `context` is JSON."""
        if self.max_characters is not None:
            return "string"
        return "json" if self.column.type == "context" else self.column.type


@dataclass(frozen=True, slots=True)
class Bucket:
    """The start of the minute, hour, day, week or month that a time lies in."""

    name: str
    column: Column
    unit: str
    timezone: str  # of the IANA database

    @property
    def type(self) -> str:
        """The type of the values."""
        return "timestamp"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One value of a group of rows. Only a count may have no column."""

    name: str
    function: str
    column: Column | None

    @property
    def type(self) -> str:
        """The type of the values."""
        if self.column is None or self.function in ("count", "count_distinct"):
            return "integer"
        if self.function in ("min", "max"):
            return self.column.type
        if self.function == "sum":
            scale = self.column.type.partition(",")[2]
            return f"decimal(38,{scale}" if self.column.kind == "decimal" else self.column.type
        return "number"


Output = Plain | Bucket | Aggregate


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a column. `values` has what the operator compares with: none for `is_null`, many for `in`."""

    column: Column
    op: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One key to sort by: an output, or a column that is not selected. Null comes last."""

    by: Output
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    Attributes:
        start: The first `timestamp`.
        end: The last `timestamp`, inclusive.
        select: The columns of the result.
        where: The conditions, all of which a row must meet.
        group_by: What rows are grouped by.
        order_by: What the result is sorted by, most important first. It makes the order complete, except for `id`.
        limit: The maximum number of rows.
        digest: The same for the same query, whatever its limit and cursor. A cursor is only valid with its query.
        after: The ID of the record after which a page begins, from the cursor.
        version: The version of the table that the cursor's page was read from.
    """

    start: datetime
    end: datetime
    select: tuple[Output, ...]
    where: tuple[Condition, ...]
    group_by: tuple[Plain | Bucket, ...]
    order_by: tuple[Order, ...]
    limit: int
    digest: str
    after: str | None = None
    version: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether each row of the result is a record. Only such a result has pages."""
        return not self.group_by and not any(isinstance(each, Aggregate) for each in self.select)

    def shortened(self, max_characters: int) -> Query:
        """Return the same query with only the beginning of values that may be long: texts, JSON and arrays."""
        select = (
            replace(each, max_characters=max_characters)
            if isinstance(each, Plain) and each.column.kind in _LONG
            else each
            for each in self.select
        )
        return replace(self, select=tuple(select))


_LONG = ("string", "json", "context", "array")
