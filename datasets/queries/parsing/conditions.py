"""Read the part of a query that selects rows: `range` and `where`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from datasets.queries.columns import NULL_OPERATORS, operators
from datasets.queries.parsing.problems import MISSING, Problems, inside
from datasets.queries.parsing.values import Reader
from datasets.queries.query import Column, Condition, Value
from datasets.schemas.fields import Field

DEFAULT_RANGE = timedelta(days=7)
_FIRST = datetime.min.replace(tzinfo=UTC)
MAX_CONDITIONS = 50
MAX_VALUES = 1000  # in the array of `in` or `not_in`


def read_range(given: Any, problems: Problems, now: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last timestamp of a query. The default is the last 7 days."""
    before = problems.count
    members = {} if given is MISSING else problems.members("range", given, ("from", "to")) or {}
    end = _moment(members, "to", problems) or now
    start = _moment(members, "from", problems) or max(end, _FIRST + DEFAULT_RANGE) - DEFAULT_RANGE
    if start > end and problems.count == before:
        is_given = "to" in members
        detail = "“from” is later than “to”." if is_given else "“from” lies in the future, and “to” is not given."
        problems.add("range.from", "a time that is not after range.to", members.get("from", MISSING), detail)
    return start, end


def _moment(members: Mapping[str, Any], name: str, problems: Problems) -> datetime | None:
    if name not in members:
        return None
    reader = Reader(Column("timestamp", "timestamp"), None)
    found = _value(f"range.{name}", members[name], reader, problems)
    return found if isinstance(found, datetime) else None


def _value(at: str, given: Any, reader: Reader, problems: Problems) -> Value | None:
    value = reader.read(given)
    if value is None:
        why = reader.why_not(given) or f"The value must be: {reader.expected}."
        problems.add(at, reader.expected, given, why)
    return value


class Conditions:
    """Reads the conditions of a query."""

    def __init__(self, columns: Mapping[str, Column], fields: Sequence[Field], problems: Problems) -> None:
        self._columns = columns
        self._fields = {field.name: field for field in fields}
        self._problems = problems

    def read(self, given: Any) -> tuple[Condition, ...]:
        """Return the conditions of `where`."""
        if given is MISSING:
            return ()
        found = (self._condition(at, each) for at, each in self._problems.items("where", given, MAX_CONDITIONS))
        return tuple(each for each in found if each is not None)

    def _condition(self, at: str, given: Any) -> Condition | None:
        members = self._problems.members(at, given, ("field", "op", "value"))
        if members is None:
            return None
        allowed = [name for name, column in self._columns.items() if operators(column)]
        name = self._problems.choice(inside(at, "field"), members.get("field", MISSING), allowed, "field")
        if name is None:
            return None
        column = self._columns[name]
        op = self._problems.choice(
            inside(at, "op"), members.get("op", MISSING), operators(column), f"operator for “{name}” ({column.type})"
        )
        if op is None:
            return None
        values = self._values(inside(at, "value"), members.get("value", MISSING), column, op)
        return None if values is None else Condition(column, op, values)

    def _values(self, at: str, given: Any, column: Column, op: str) -> tuple[Value, ...] | None:
        if op in NULL_OPERATORS:
            if given is not MISSING:
                self._problems.add(at, "nothing", given, f"“{op}” takes no value.")
            return ()
        reader = self._reader(column, op)
        if given is MISSING:
            self._problems.add(at, reader.expected, given, f"“{op}” needs a value.")
            return None
        if op in ("in", "not_in"):
            items = self._problems.items(at, given, MAX_VALUES, minimum=1)
            found = [_value(item_at, item, reader, self._problems) for item_at, item in items]
        else:
            found = [_value(at, given, reader, self._problems)]
        return tuple(each for each in found if each is not None)

    def _reader(self, column: Column, op: str) -> Reader:
        if op == "starts_with" or (op == "contains" and column.kind == "string"):
            return Reader(Column(column.name, "string"), None)
        return Reader(column, self._fields.get(column.name))
