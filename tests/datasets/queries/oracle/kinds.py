"""What a query may do with each kind of field. This was written from the specification, not from the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

NUMBERS = ("number", "integer", "decimal")
_EQUALITY = ("=", "!=")
_SETS = (*_EQUALITY, "in", "not_in")
_ORDERED = (*_SETS, "<", "<=", ">", ">=")
OPERATORS: dict[str, tuple[str, ...]] = {
    "string": (*_SETS, "contains", "starts_with"),
    **dict.fromkeys((*NUMBERS, "timestamp", "date"), _ORDERED),
    **dict.fromkeys(("enum", "uuid"), _SETS),
    "boolean": _EQUALITY,
    "array": ("contains",),
    "json": (),
    "context": (),
}
ON_NULL = ("is_null", "is_not_null")

_COUNTS = ("count", "count_distinct")
_PERCENTILES = ("median", "p90", "p95", "p99")
AGGREGATES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(NUMBERS, (*_COUNTS, "sum", "avg", "min", "max", *_PERCENTILES)),
    **dict.fromkeys(("string", "enum", "uuid", "timestamp", "date"), (*_COUNTS, "min", "max")),
    "boolean": _COUNTS,
    **dict.fromkeys(("array", "json"), ("count",)),
    "context": (),
}
COMPARABLE = tuple(kind for kind, found in AGGREGATES.items() if "count_distinct" in found)
BUCKETS = ("minute", "hour", "day", "week", "month")


@dataclass(frozen=True)
class Column:
    """A field that queries may name. An `optional` field may be compared with null."""

    name: str
    type: str  # as a schema writes it, without `?`
    optional: bool = False

    @property
    def kind(self) -> str:
        """The type without its arguments: `decimal` for `decimal(10,2)`, `array` for `string[]`."""
        return "array" if self.type.endswith("[]") else self.type.partition("(")[0]


def value_of(declared: str, sent: Any) -> Any:
    """Convert a JSON value of a record, a query or an answer to its Python value."""
    if sent is None:
        return None
    if declared.endswith("[]"):
        return [value_of(declared.removesuffix("[]"), each) for each in sent]
    if declared == "timestamp":
        return moment(sent)
    if declared == "date":
        return date.fromisoformat(sent)
    if declared == "number":
        return float(sent)
    return Decimal(str(sent)) if declared.startswith("decimal") else sent


def moment(text: str) -> datetime:
    """Return an RFC 3339 text as a time in UTC."""
    fraction = re.fullmatch(r"([^.]*)\.([0-9]+)(.*)", text)
    if fraction:  # Python 3.11 reads six digits only
        text = f"{fraction[1]}.{fraction[2]:0<6}{fraction[3]}"
    return datetime.fromisoformat(text.upper().replace("Z", "+00:00")).astimezone(UTC)
