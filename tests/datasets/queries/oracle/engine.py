"""Answer a query from the records that were sent, in plain Python. The code is slow and simple on purpose."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any

from tests.datasets.queries.oracle.buckets import bucket
from tests.datasets.queries.oracle.kinds import Column, moment, value_of

Query = Mapping[str, Any]
Row = tuple[Any, ...]
DEFAULT_RANGE = timedelta(days=7)
MAX_LIMIT = 1000
DEFAULT_SELECT = [{"aggregate": "count", "as": "count"}]
ABOUT = "about"  # the type of an output whose values are About
_EXACT = Context(prec=80)
_TOLERANCE, _TINY = 1e-9, 1e-300
_PERCENTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, given: value in given,
    "not_in": lambda value, given: value not in given,
    "contains": lambda value, given: given in value,
    "starts_with": str.startswith,
}


@dataclass(frozen=True)
class Source:
    """The records from which a table was made: its queryable fields, and the Python values of each field."""

    columns: Mapping[str, Column]
    values: Mapping[str, list[Any]]


@dataclass(frozen=True)
class About:
    """A number that depends on the order of additions. The answer may differ by `within`."""

    value: float
    within: float


@dataclass(frozen=True)
class Expected:
    """All rows that a query finds, before `limit`, with the names and types of its outputs.

    For each row, `keys` has the values by which it is sorted. For each of these values, `descending` has the direction.
    """

    names: list[str]
    types: list[str]
    rows: list[Row]
    keys: list[Row]
    descending: list[bool]
    limit: int
    is_plain: bool  # whether each row is a record


def answer(query: Query, source: Source, now: datetime) -> Expected:
    """Return what the service must answer."""
    found = _matching(query, source, now)
    select = query.get("select", DEFAULT_SELECT)
    by_name = {name_of(each): each for each in select}
    order = query.get("orderBy", ())
    # The sort keys need not be selected.
    outputs = [*select, *(by_name.get(each["field"], {"field": each["field"]}) for each in order)]
    is_plain = not query.get("groupBy") and not any("aggregate" in each for each in select)
    if not is_plain:
        rows = _grouped(query, outputs, source, found)
    else:
        values = [_outputs(each, source, found) for each in select]
        values += [_comparable(each, source, found) for each in outputs[len(select) :]]
        rows = list(zip(*values, strict=True))
    return Expected(
        list(by_name),
        [_type_of(each, source) for each in select],
        [row[: len(select)] for row in rows],
        [row[len(select) :] for row in rows],
        [each.get("direction") == "desc" for each in order],
        min(query.get("limit", 100), MAX_LIMIT),
        is_plain,
    )


def name_of(selected: Mapping[str, Any]) -> str:
    """Return the name of a selected output."""
    parts = [selected[each] for each in ("aggregate", "field") if each in selected]
    name: str = selected.get("as") or selected.get("bucket") or "_".join(parts)[:63]
    return name


def _type_of(selected: Mapping[str, Any], source: Source) -> str:
    """Return the type of an output."""
    what = selected.get("aggregate")
    declared = source.columns[selected["field"]].type if "field" in selected else ""
    if "bucket" in selected:
        return "timestamp"
    if what in ("count", "count_distinct"):
        return "integer"
    if what in (None, "min", "max"):
        return declared
    return declared if what == "sum" and declared != "number" else ABOUT


def _matching(query: Query, source: Source, now: datetime) -> list[int]:
    """Return the positions of the records that are in the range and meet all conditions."""
    given = query.get("range", {})
    until = moment(given["to"]) if "to" in given else now
    since = moment(given["from"]) if "from" in given else until - DEFAULT_RANGE
    kept = [number for number, at in enumerate(source.values["timestamp"]) if since <= at <= until]
    for condition in query.get("where", ()):
        fits = _test_of(condition, source.columns[condition["field"]].type)
        values = source.values[condition["field"]]
        kept = [number for number in kept if fits(values[number])]
    return kept


def _test_of(condition: Mapping[str, Any], declared: str) -> Callable[[Any], bool]:
    """Return a function that says whether a value meets a condition. Null meets no comparison."""
    op, given = condition["op"], condition.get("value")
    if op == "is_null":
        return lambda value: value is None
    if op == "is_not_null":
        return lambda value: value is not None
    one = declared.removesuffix("[]")
    wanted: Any = [value_of(one, each) for each in given or ()] if op in ("in", "not_in") else value_of(one, given)
    compare = _COMPARISONS[op]
    if declared == "uuid":
        wanted = wanted.lower() if isinstance(wanted, str) else [each.lower() for each in wanted]
        return lambda value: value is not None and compare(value.lower(), wanted)
    return lambda value: value is not None and compare(value, wanted)


def _outputs(selected: Mapping[str, Any], source: Source, found: Sequence[int]) -> list[Any]:
    """Return the values of a selected field or bucket, one for each record."""
    column = source.values[selected["field"]]
    values = [column[number] for number in found]
    if "bucket" not in selected:
        return values
    unit, zone = selected["bucket"], selected.get("timezone", "UTC")
    starts = {value: bucket(value, unit, zone) for value in set(values) if value is not None}
    return [starts.get(value) for value in values]


def _grouped(query: Query, select: Sequence[Mapping[str, Any]], source: Source, found: Sequence[int]) -> list[Row]:
    buckets = {name_of(each): each for each in select if "bucket" in each}
    grouped = query.get("groupBy", ())
    keys = [_comparable(buckets.get(name, {"field": name}), source, found) for name in grouped]
    groups: dict[Row, list[int]] = defaultdict(list)
    if not keys:
        groups[()] = list(found)  # without groupBy, there is one row even if no record is found
    else:
        for number, key in zip(found, zip(*keys, strict=True), strict=True):
            groups[key].append(number)
    return [
        tuple(
            _aggregate(each, source, members)
            if "aggregate" in each
            else key[grouped.index(name_of(each) if "bucket" in each else each["field"])]
            for each in select
        )
        for key, members in groups.items()
    ]


def _comparable(selected: Mapping[str, Any], source: Source, found: Sequence[int]) -> list[Any]:
    """Return the values of a field or bucket for groups, aggregates and orders: UUIDs in lower case."""
    values = _outputs(selected, source, found)
    if source.columns[selected["field"]].type == "uuid":
        return [value and value.lower() for value in values]
    return values


def _aggregate(selected: Mapping[str, Any], source: Source, members: Sequence[int]) -> Any:
    """Return an aggregate of a group. All but `count` without a field ignore nulls."""
    what = selected["aggregate"]
    if "field" not in selected:
        return len(members)
    values = [value for value in _comparable({"field": selected["field"]}, source, members) if value is not None]
    if what == "count":
        return len(values)
    if what == "count_distinct":
        return len(set(values))
    if not values:
        return None
    if what in ("min", "max"):
        return min(values) if what == "min" else max(values)
    with localcontext(_EXACT):
        if what in _PERCENTILES:
            return _percentile(_PERCENTILES[what], values)
        return _sum(values) if what == "sum" else _average(values)


def _sum(values: list[Any]) -> Any:
    if isinstance(values[0], float):
        return About(math.fsum(values), _TOLERANCE * math.fsum(map(abs, values)) + _TINY)
    return sum(values[1:], values[0])


def _average(values: list[Any]) -> About:
    magnitude = math.fsum(abs(float(each)) for each in values)
    exact = math.fsum(values) if isinstance(values[0], float) else sum(map(Decimal, values), Decimal())
    return About(float(exact / len(values)), _TOLERANCE * magnitude / len(values) + _TINY)


def _percentile(share: float, values: list[Any]) -> About:
    """Return the value at a share of the sorted values. Between two values, interpolate linearly."""
    numbers = sorted(map(float, values))
    place = share * (len(numbers) - 1)
    low, high = numbers[math.floor(place)], numbers[math.ceil(place)]
    return About(low + (high - low) * (place % 1), _TOLERANCE * max(abs(low), abs(high)) + _TINY)
