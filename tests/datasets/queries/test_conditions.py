"""Each operator on each type, on rows of two schema versions."""

from __future__ import annotations

from typing import Any

import pytest

from datasets.schemas.fields import Field
from tests.datasets.queries.conftest import FIRST_FIELDS, NOW, Store

# The rows of `orders` have the numbers 1 to 6.
FOUND: list[tuple[str, str, Any, list[int]]] = [
    ("country", "=", "RO", [1, 3]),
    ("country", "!=", "RO", [2, 4, 5, 6]),
    ("country", "in", ["RO", "FR", "XX"], [1, 3, 4, 5, 6]),
    ("country", "not_in", ["RO", "FR"], [2]),
    ("plan", "=", "", []),
    ("plan", "!=", "pro", [2, 6]),  # rows 3 and 4 have null, which no comparison finds
    ("plan", "not_in", ["pro"], [2, 6]),
    ("plan", "contains", "% off", [6]),
    ("plan", "contains", "r%o", []),
    ("plan", "contains", "_", [6]),
    ("plan", "contains", "", [1, 2, 5, 6]),
    ("plan", "starts_with", "50%", [6]),
    ("plan", "starts_with", "_0", []),
    ("plan", "starts_with", "p", [1, 5]),
    ("plan", "is_null", ..., [3, 4]),
    ("plan", "is_not_null", ..., [1, 2, 5, 6]),
    ("amount", "=", 42.5, [1]),
    ("amount", "=", -0.0, [4, 5, 6]),
    ("amount", "!=", 0, [1, 2, 3]),
    ("amount", "<", 0, [3]),
    ("amount", "<=", 0, [3, 4, 5, 6]),
    ("amount", ">", 7, [1]),
    ("amount", ">=", 7, [1, 2]),
    ("amount", "in", [7, -1.5], [2, 3]),
    ("amount", "not_in", [0], [1, 2, 3]),
    ("active", "=", True, [1, 2, 3]),
    ("active", "!=", True, [4, 5, 6]),
    ("timestamp", "=", "2026-06-10T12:58:00+02:00", [1]),
    ("timestamp", ">", "2026-06-12T10:00:00Z", [4, 5, 6]),
    ("timestamp", "in", ["2026-06-12T10:00:00Z", "0001-01-01T00:00:00Z"], [3]),
    ("signup_at", "<=", "2026-06-01T08:00:00.000000Z", [1, 2, 3, 4, 5, 6]),
    ("ingested_at", "<", "2026-06-15T12:00:00Z", []),
    ("quantity", "=", 2**62, [5]),
    ("quantity", ">", 2**62 - 1, [5]),
    ("quantity", "<", 2**62, [4]),
    ("quantity", "not_in", [3], [5]),
    ("quantity", "is_null", ..., [1, 2, 3, 6]),
    ("price", "=", "12.5", [4]),
    ("price", "=", 0.1, [5]),
    ("price", ">=", "0.10", [4, 5]),
    ("price", "in", ["0.1", 12.50], [4, 5]),
    ("day", "=", "2026-06-13", [4]),
    ("day", "<", "9999-12-31", [4]),
    ("order", "=", "f81d4fae-7DEC-11d0-a765-00a0c91e6bf6", [4]),
    ("order", "not_in", ["00000000-7dec-11d0-a765-00a0c91e6bf6"], [4]),
    ("details", "is_not_null", ..., [4]),
    ("state", "=", "paid", [5]),
    ("state", "in", ["paid", "open"], [4, 5]),
    ("tags", "contains", "50%", [4]),
    ("tags", "contains", "50", []),
    ("tags", "is_null", ..., [1, 2, 3, 6]),
    ("sizes", "contains", 2, [4]),
    ("visits", "contains", "2026-06-13T12:00:00+02:00", [4]),
    ("id", "starts_with", "1781524800000-0-00000", [1, 2, 3, 4, 5, 6]),
    ("__traceId", "=", "trace-2", [2]),
]


@pytest.mark.parametrize(("field", "op", "value", "expected"), FOUND)
def test_an_operator_finds_the_expected_records(
    orders: Store, field: str, op: str, value: Any, expected: list[int]
) -> None:
    condition = {"field": field, "op": op, **({} if value is ... else {"value": value})}
    found = orders.values("__traceId", where=[condition])
    assert found == [f"trace-{number}" for number in expected]


def test_all_conditions_must_hold(orders: Store) -> None:
    where = [{"field": "country", "op": "=", "value": "RO"}, {"field": "amount", "op": "<", "value": 0}]
    assert orders.values("amount", where=where) == [-1.5]


def test_the_range_includes_both_ends(orders: Store) -> None:
    both = {"from": "2026-06-11T10:00:00Z", "to": "2026-06-12T10:00:00Z"}
    assert orders.values("__traceId", range=both) == ["trace-2", "trace-3"]
    between = {"from": "2026-06-11T10:00:00.000001Z", "to": "2026-06-12T09:59:59.999999Z"}
    assert orders.values("__traceId", range=between) == []


HOSTILE = ["'", '"', "';--", "a\0b", "\N{GRINNING FACE}", "%", "\\", "$1", "__proto__", "O'Brien", "\u202e", "x" * 5000]


def test_a_value_is_only_a_value(store: Store) -> None:
    row = {"amount": 1.0, "active": True, "signup_at": NOW}
    store.add(FIRST_FIELDS, *({**row, "country": f"{text}."} for text in HOSTILE))
    for text in HOSTILE:
        for op, value in (("in", [f"{text}."]), ("starts_with", text)):
            found = store.values("country", where=[{"field": "country", "op": op, "value": value}])
            assert f"{text}." in found
            assert all(text in each for each in found)


@pytest.mark.parametrize("name", ["select", "__proto__", "rowid", "records", "position", "c0", "k0"])
def test_a_field_may_have_a_name_that_sql_knows(store: Store, name: str) -> None:
    store.add([Field(name, "string"), Field("stream", "number")], {name: "b", "stream": 1}, {name: "a", "stream": 2})
    assert store.values(name, orderBy=[{"field": name}]) == ["a", "b"]
    grouped = store.rows(select=[{"field": name}, {"aggregate": "sum", "field": "stream"}], groupBy=[name])
    assert grouped == [{name: "a", "sum_stream": 2.0}, {name: "b", "sum_stream": 1.0}]
