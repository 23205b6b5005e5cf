"""Read the part of a query that shapes the result: `select`, `groupBy` and `orderBy`."""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from datasets.queries.columns import AGGREGATES, BUCKETS, COMPARABLE
from datasets.queries.parsing.problems import MISSING, Problems, inside
from datasets.queries.query import Aggregate, Bucket, Column, Order, Output, Plain

MAX_SELECTED = 250
MAX_GROUPS = 10
MAX_ORDERS = 10


@lru_cache(maxsize=1)
def timezones() -> frozenset[str]:
    """Return the names of the IANA database's time zones."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


class Outputs:
    """Reads the columns of a query's result. Call `select`, `group_by` and `order_by` in this order."""

    def __init__(self, columns: Mapping[str, Column], problems: Problems) -> None:
        self._columns = columns
        self._problems = problems
        self._is_right = True  # whether `select` and `groupBy` have no problem so far

    # -- select

    def select(self, given: Any) -> tuple[Output, ...]:
        """Return the columns of the result. The default is a count."""
        if given is MISSING:
            return (Aggregate("count", "count", None),)
        found: dict[str, Output] = {}
        before = self._problems.count
        for at, each in self._problems.items("select", given, MAX_SELECTED, minimum=1):
            output = self._output(at, each)
            if output is not None and output.name in found:
                detail = f"Two columns of the result are called “{output.name}”. Rename one of them with “as”."
                self._problems.add(inside(at, "as"), "a name that no other column has", output.name, detail)
            elif output is not None:
                found[output.name] = output
        self._is_right = self._problems.count == before
        return tuple(found.values())

    def _output(self, at: str, given: Any) -> Output | None:
        if isinstance(given, Mapping) and "aggregate" in given:
            return self._aggregate(at, given)
        if isinstance(given, Mapping) and "bucket" in given:
            return self._bucket(at, given)
        members = self._problems.members(at, given, ("field", "as", "aggregate", "bucket"))
        if members is None:
            return None
        column = self._column(inside(at, "field"), members.get("field", MISSING), tuple(self._columns))
        name = self._name(at, members, column.name if column else "field")
        return Plain(name, column) if column and name else None

    def _aggregate(self, at: str, given: Any) -> Aggregate | None:
        members = self._problems.members(at, given, ("aggregate", "field", "as")) or {}
        function = self._problems.choice(inside(at, "aggregate"), members["aggregate"], AGGREGATES, "aggregate")
        if function is None:
            return None
        if function == "count" and "field" not in members:
            name = self._name(at, members, function)
            return Aggregate(name, function, None) if name else None
        allowed = [name for name, column in self._columns.items() if column.kind in AGGREGATES[function]]
        column = self._column(inside(at, "field"), members.get("field", MISSING), allowed, f"field for “{function}”")
        name = self._name(at, members, f"{function}_{column.name}"[:63] if column else function)
        return Aggregate(name, function, column) if column and name else None

    def _bucket(self, at: str, given: Any) -> Bucket | None:
        members = self._problems.members(at, given, ("bucket", "field", "as", "timezone")) or {}
        unit = self._problems.choice(inside(at, "bucket"), members["bucket"], BUCKETS, "bucket")
        times = [name for name, column in self._columns.items() if column.kind == "timestamp"]
        column = self._column(inside(at, "field"), members.get("field", MISSING), times, "field for a bucket")
        zone = members.get("timezone", "UTC")
        if not isinstance(zone, str) or zone not in timezones():
            detail = "The time zone is not known. Use a name of the IANA database, like Europe/Bucharest."
            self._problems.add(inside(at, "timezone"), "name of an IANA time zone", zone, detail)
            return None
        name = self._name(at, members, unit or "bucket")
        return Bucket(name, column, unit, zone) if unit and column and name else None

    def _column(self, at: str, given: Any, allowed: Sequence[str], what: str = "field") -> Column | None:
        name = self._problems.choice(at, given, allowed, what)
        return self._columns[name] if name else None

    def _name(self, at: str, members: Mapping[str, Any], default: str) -> str | None:
        return self._problems.name(inside(at, "as"), members["as"]) if "as" in members else default

    # -- groupBy

    def group_by(self, given: Any, select: Sequence[Output]) -> tuple[Plain | Bucket, ...]:
        """Return the buckets and columns that group rows. A name that a bucket and a column share means the bucket."""
        buckets = {each.name: each for each in select if isinstance(each, Bucket)}
        columns = {name: column for name, column in self._columns.items() if column.kind in COMPARABLE}
        found: dict[str, Plain | Bucket] = {}
        before = self._problems.count
        if given is not MISSING:
            for at, each in self._problems.items("groupBy", given, MAX_GROUPS):
                name = self._reference(at, each, {**buckets, **columns}, "field")
                if name in found:
                    self._problems.add(at, "a name that is not listed yet", each, f"“{name}” is listed twice.")
                elif name is not None:
                    found[name] = buckets.get(name) or Plain(name, columns[name])
        if self._problems.count == before:
            self._check_grouped(select, found)
        self._is_right = self._is_right and self._problems.count == before
        return tuple(found.values())

    def _reference(self, at: str, given: Any, known: Collection[str], what: str) -> str | None:
        """Return a name that another part of the query must declare. Add a problem if that part does not declare it.

        If that part is wrong, add no problem: its own problem may be why the name is unknown.
        """
        if isinstance(given, str) and given not in known and not self._is_right:
            return None
        return self._problems.choice(at, given, known, what)

    def _check_grouped(self, select: Sequence[Output], grouped: Mapping[str, Plain | Bucket]) -> None:
        """Add a problem for each selected column or bucket that can have several values in a group."""
        has_groups = bool(grouped) or any(isinstance(each, Aggregate) for each in select)
        columns = {each.column.name for each in grouped.values() if isinstance(each, Plain)}
        for number, each in enumerate(select):
            at = f"select[{number}]"
            if isinstance(each, Bucket) and grouped.get(each.name) != each:
                detail = f"The bucket “{each.name}” must be in “groupBy”."
                self._problems.add(at, "a bucket whose name is in groupBy", each.name, detail)
            elif isinstance(each, Plain) and has_groups and each.column.name not in columns:
                detail = f"“{each.column.name}” is neither aggregated nor in “groupBy”."
                self._problems.add(at, "an aggregate, or a field of groupBy", each.column.name, detail)

    # -- orderBy

    def order_by(
        self, given: Any, select: Sequence[Output], group_by: Sequence[Plain | Bucket], *, is_plain: bool
    ) -> tuple[Order, ...]:
        """Return the sort keys: those that the query names, and then those that give groups a complete order."""
        others = [Plain(name, column) for name, column in self._columns.items()] if is_plain else group_by
        known = {each.name: each for each in (*others, *select) if _is_sortable(each)}
        found: dict[str, Order] = {}
        if given is not MISSING:
            for at, each in self._problems.items("orderBy", given, MAX_ORDERS):
                order = self._order(at, each, known)
                if order and order.by.name in found:
                    detail = f"“{order.by.name}” is listed twice."
                    self._problems.add(inside(at, "field"), "a name that is not listed yet", order.by.name, detail)
                elif order:
                    found[order.by.name] = order
        if is_plain:
            return tuple(found.values()) or (Order(Plain("timestamp", self._columns["timestamp"]), descending=True),)
        sorted_by = [each.by for each in found.values()]
        rest = [Order(each, descending=False) for each in group_by if each not in sorted_by]
        return (*found.values(), *rest)

    def _order(self, at: str, given: Any, known: Mapping[str, Output]) -> Order | None:
        members = self._problems.members(at, given, ("field", "direction"))
        if members is None:
            return None
        name = self._reference(inside(at, "field"), members.get("field", MISSING), known, "field to sort by")
        direction = self._problems.choice(
            inside(at, "direction"), members.get("direction", "asc"), ("asc", "desc"), "direction"
        )
        return Order(known[name], direction == "desc") if name and direction else None


def _is_sortable(output: Output) -> bool:
    return isinstance(output, Aggregate | Bucket) or output.column.kind in COMPARABLE
