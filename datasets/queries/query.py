"""A checked query: `language.parse` returns it, and `engine.run` answers it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

_LONG = ("string", "json", "context", "array")  # kinds whose values may be long
Value = str | float | int | bool | Decimal | date | datetime


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table that a query may name.

    Attributes:
        name: The name of the column in the table, and of the field in records.
        type: The type as a schema writes it, like `decimal(10,2)`.
        optional: Whether a condition may ask for null: the field is optional, or was optional or missing in an
            earlier schema version.
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
    """A selected column. With `max_characters`, each value is cut to this length, and is a text."""

    name: str
    column: Column
    max_characters: int | None = None

    @property
    def type(self) -> str:
        """The type of the values."""
        if self.max_characters is not None:
            return "string"
        return "json" if self.column.type == "context" else self.column.type


@dataclass(frozen=True, slots=True)
class Bucket:
    """The start of the minute, hour, day, week or month in which a time lies."""

    name: str
    column: Column
    unit: str
    timezone: str  # a name of the IANA database

    @property
    def type(self) -> str:
        """The type of the values."""
        return "timestamp"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A value that is computed from a group of rows. Only `count` may have no column."""

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
    """A condition on a column. `is_null` and `is_not_null` have no `values`, `in` and `not_in` one or more."""

    column: Column
    op: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """A sort key: an output, or a column that is not selected. Null comes last."""

    by: Output
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    Attributes:
        start: The first `timestamp`.
        end: The last `timestamp`, inclusive.
        select: The columns of the result.
        where: The conditions. A row must meet all of them.
        group_by: The columns and buckets by which rows are grouped.
        order_by: The sort keys, most important first. Records that are equal in all of them are sorted by `id`.
        limit: The maximum number of rows.
        digest: A hash of the query without its limit and cursor. A cursor is valid only with the same digest.
        after: The ID of the last record of the previous page, from the cursor. None for the first page.
        version: The version of the table from which the previous page was read, from the cursor.
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
        """Whether each row of the result is one record. If not, the result has no pages."""
        return not self.group_by and not any(isinstance(each, Aggregate) for each in self.select)

    def shortened(self, max_characters: int) -> Query:
        """Return the same query, but cut the values that may be long: texts, JSON and arrays."""
        select = (
            replace(each, max_characters=max_characters)
            if isinstance(each, Plain) and each.column.kind in _LONG
            else each
            for each in self.select
        )
        return replace(self, select=tuple(select))
