"""Make random queries that are valid for a source."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from tests.datasets.queries.oracle.engine import Source, name_of
from tests.datasets.queries.oracle.kinds import AGGREGATES, BUCKETS, COMPARABLE, ON_NULL, OPERATORS, Column

ZONES = (
    "UTC",
    "Europe/Bucharest",
    "America/New_York",
    "America/Sao_Paulo",  # until 2019, clocks were set forward at midnight
    "Asia/Kolkata",
    "Pacific/Auckland",
)
_HOSTILE_TEXTS = ("", "%", "_", "\\", "'", '"', "%%", "a%", "\0", "é", "😀", "null", "--", "*")
_NAMES = ("select", "Count", "FROM", "__proto__", "_", "null", "position", "c0", "k1", "x" * 63)

Query = dict[str, Any]
Selected = dict[str, Any]


class Generator:
    """Makes queries over one source. The same `chance` makes the same queries."""

    def __init__(self, source: Source, chance: random.Random) -> None:
        self.chance = chance
        self.columns = list(source.columns.values())
        self.values = {name: [each for each in source.values[name] if each is not None] for name in source.columns}
        self.times = sorted(self.values["timestamp"])

    def query(self) -> Query:
        """Return a query: one of the three forms or an empty one, with random conditions, range, order and limit."""
        form = self.chance.choice((self._plain, self._plain, self._aggregated, self._grouped, self._grouped, dict))
        query: Query = form()
        if self._maybe(0.9):
            query["range"] = self._range()
        if self._maybe(0.7):
            query["where"] = [self._condition() for _ in range(self.chance.choice((1, 1, 2, 3)))]
        names = self._sortable(query)
        if names and self._maybe(0.6):
            query["orderBy"] = [self._order(name) for name in self.chance.sample(names, min(len(names), 2))]
        if self._maybe(0.7):
            query["limit"] = self.chance.choice((1, 2, 7, 50, 99, 1000, 2000))
        return query

    def _maybe(self, likely: float) -> bool:
        return self.chance.random() < likely

    def _sortable(self, query: Query) -> list[str]:
        """Return the names by which the query may sort: comparable outputs, and comparable fields of plain records."""
        columns = {each.name: each for each in self.columns}
        comparable = [name for name, each in columns.items() if each.kind in COMPARABLE]
        select = query.get("select", ())
        names = [
            name_of(each) for each in select if "aggregate" in each or "bucket" in each or each["field"] in comparable
        ]
        is_plain = bool(select) and not any("aggregate" in each for each in select)
        return names + [name for name in comparable if name not in names] * (is_plain and self._maybe(0.3))

    # -- the three forms -------------------------------------------------------------------------------

    def _plain(self) -> Query:
        fields = self.chance.sample(self.columns, self.chance.randint(1, 5))
        return {"select": self._named([{"field": each.name} for each in fields])}

    def _aggregated(self) -> Query:
        return {"select": self._named([self._aggregate() for _ in range(self.chance.randint(1, 5))])}

    def _grouped(self) -> Query:
        comparable = [each.name for each in self.columns if each.kind in COMPARABLE]
        keys: list[Selected] = [
            {"field": name} for name in self.chance.sample(comparable, self.chance.choice((0, 1, 1, 2)))
        ]
        if not keys or self._maybe(0.5):
            keys.append(self._bucket())
        shown = [key for key in keys if "bucket" in key or self._maybe(0.8)]
        select = self._named([*shown, *(self._aggregate() for _ in range(self.chance.randint(1, 3)))])
        self.chance.shuffle(select)
        groups = [each["field"] for each in keys if "bucket" not in each]
        buckets = [name_of(each) for each in select if "bucket" in each]
        if set(groups) & set(buckets):
            return self._grouped()  # a name in groupBy means the bucket
        return {"select": select, "groupBy": self.chance.sample([*groups, *buckets], len(keys))}

    # -- parts of a query ------------------------------------------------------------------------------

    def _named(self, select: list[Selected]) -> list[Selected]:
        """Give a name to some outputs, and to all outputs whose default name is already used."""
        names: set[str] = set()
        for number, each in enumerate(select):
            if self._maybe(0.3):
                each["as"] = self.chance.choice(_NAMES)
            if name_of(each) in names:
                each["as"] = f"output{number}"
            names.add(name_of(each))
        return select

    def _bucket(self) -> Selected:
        times = [each.name for each in self.columns if each.kind == "timestamp"]
        zone = {"timezone": self.chance.choice(ZONES)} if self._maybe(0.7) else {}
        return {"bucket": self.chance.choice(BUCKETS), "field": self.chance.choice(times), **zone}

    def _aggregate(self) -> Selected:
        if self._maybe(0.2):
            return {"aggregate": "count"}
        column = self.chance.choice([each for each in self.columns if AGGREGATES[each.kind]])
        return {"aggregate": self.chance.choice(AGGREGATES[column.kind]), "field": column.name}

    def _order(self, name: str) -> Selected:
        return {"field": name} | ({"direction": self.chance.choice(("asc", "desc"))} if self._maybe(0.8) else {})

    def _range(self) -> Selected:
        """Return a range from one record's time to another's, sometimes with one end only."""
        since, until = sorted(self.chance.choice(self.times) for _ in range(2))
        if self._maybe(0.5):
            since, until = self.times[0] - timedelta(days=1), self.times[-1]
        both = {"from": self._spelled_time(since), "to": self._spelled_time(until)}
        return {name: text for name, text in both.items() if self._maybe(0.9)}

    def _condition(self) -> Selected:
        choices = [each for each in self.columns if OPERATORS[each.kind] or each.optional]
        column = self.chance.choice(choices)
        if column.optional and (not OPERATORS[column.kind] or self._maybe(0.2)):
            return {"field": column.name, "op": self.chance.choice(ON_NULL)}
        op = self.chance.choice(OPERATORS[column.kind])
        if op in ("in", "not_in"):
            value: Any = [self._value(column) for _ in range(self.chance.randint(1, 4))]
        elif column.kind == "array":
            value = self._element(column)
        elif op in ("contains", "starts_with"):
            value = self._part_of(self._drawn(column), op)
        else:
            value = self._value(column)
        return {"field": column.name, "op": op, "value": value}

    # -- values ----------------------------------------------------------------------------------------

    def _drawn(self, column: Column) -> Any:
        """Return a value of the column, sometimes one near it."""
        value = self.chance.choice(self.values[column.name])
        if self._maybe(0.8):
            return value
        if column.kind in ("number", "integer"):
            return value + self.chance.choice((-1, 1)) if abs(value) < 2**62 else value
        if column.kind == "timestamp":
            return value + self.chance.choice((-1, 1)) * timedelta(microseconds=1)
        return self.chance.choice(_HOSTILE_TEXTS) if column.kind == "string" else value

    def _element(self, column: Column) -> Any:
        """Return an element of one of the column's arrays."""
        filled = [each for each in self.values[column.name] if each]
        return self._spelled(self.chance.choice(self.chance.choice(filled)))

    def _part_of(self, text: str, op: str) -> str:
        if self._maybe(0.3):
            return self.chance.choice(_HOSTILE_TEXTS)
        start = 0 if op == "starts_with" else self.chance.randint(0, len(text))
        return text[start : start + self.chance.randint(0, 4)]

    def _value(self, column: Column) -> Any:
        """Return a value of the column as a query sends it."""
        return self._spelled(self._drawn(column))

    def _spelled(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return self._spelled_time(value)
        if isinstance(value, date):
            return value.isoformat()
        return f"{value:f}" if isinstance(value, Decimal) else value

    def _spelled_time(self, value: datetime) -> str:
        """Return a time as RFC 3339, with any offset."""
        minutes = self.chance.choice((0, 0, 120, -300, 330))
        text = value.astimezone(timezone(timedelta(minutes=minutes)) if minutes else UTC).isoformat()
        return text.replace("+00:00", "Z")


def described(queries: Sequence[Query]) -> str:
    """Return how many of the queries use each operator, aggregate and bucket."""
    counts: dict[str, int] = {}
    for query in queries:
        words = [each["op"] for each in query.get("where", ())]
        words += [
            word for each in query.get("select", ()) for word in (each.get("aggregate"), each.get("bucket")) if word
        ]
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{word} {count}" for word, count in sorted(counts.items()))
