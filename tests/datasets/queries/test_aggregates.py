"""Aggregates and groups: exact values, nulls, overflow."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from datasets.queries.errors import ResultOutOfRange
from datasets.schemas.fields import Field
from tests.datasets.queries.conftest import Store

BIG = 10**38 - 1


def only(store: Store, function: str, field: str) -> Any:
    answer = store.run(select=[{"aggregate": function, "field": field, "as": "x"}])
    return answer.columns[0].type, answer.rows["x"][0].as_py()


@pytest.mark.parametrize(
    ("function", "field", "expected"),
    [
        ("count", "plan", ("integer", 4)),
        ("count", "tags", ("integer", 2)),
        ("count_distinct", "plan", ("integer", 3)),
        ("count_distinct", "active", ("integer", 2)),
        ("count_distinct", "order", ("integer", 1)),
        ("sum", "amount", ("number", 48.0)),
        ("sum", "quantity", ("integer", 2**62 + 3)),
        ("sum", "price", ("decimal(38,2)", Decimal("12.60"))),
        ("avg", "amount", ("number", 8.0)),
        ("avg", "price", ("number", 6.3)),
        ("min", "amount", ("number", -1.5)),
        ("max", "quantity", ("integer", 2**62)),
        ("max", "price", ("decimal(10,2)", Decimal("12.50"))),
        ("min", "plan", ("string", "50% off_")),
        ("max", "state", ("enum", "paid")),
        ("max", "order", ("uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6")),
        ("median", "amount", ("number", 0.0)),
        ("median", "price", ("number", 6.3)),
        ("p90", "amount", ("number", 24.75)),  # halfway between 7 and 42.5
    ],
)
def test_an_aggregate_has_a_type_and_a_value(
    orders: Store, function: str, field: str, expected: tuple[str, Any]
) -> None:
    assert only(orders, function, field) == expected


def test_times_and_days_have_a_minimum(orders: Store) -> None:
    assert only(orders, "min", "timestamp")[1].isoformat() == "2026-06-10T10:58:00+00:00"
    assert only(orders, "max", "day")[1].isoformat() == "2026-06-13"


def test_aggregates_of_no_rows_are_null(orders: Store) -> None:
    names = ["count", "sum", "avg", "min", "median", "p99"]
    select = [{"aggregate": name, "field": "amount", "as": name} for name in names]
    nowhere = [{"field": "country", "op": "=", "value": "XX"}]
    expected = {**dict.fromkeys(names), "count": 0}
    assert orders.rows(select=select, where=nowhere) == [expected]
    assert orders.rows(select=select, where=nowhere, groupBy=["country"]) == []


def test_a_percentile_interpolates(store: Store) -> None:
    store.add([Field("x", "integer")], *({"x": value} for value in (10, 20, 30, 40)))
    assert only(store, "median", "x") == ("number", 25.0)
    assert only(store, "p90", "x")[1] == pytest.approx(37)
    assert only(store, "p99", "x")[1] == pytest.approx(39.7)


def test_the_default_name_has_function_and_field(orders: Store) -> None:
    select = [{"aggregate": "count"}, {"aggregate": "sum", "field": "amount"}]
    assert orders.run(select=select).rows.column_names == ["count", "sum_amount"]


def test_groups_are_sorted_by_what_they_are_grouped_by(orders: Store) -> None:
    rows = orders.rows(select=[{"field": "plan"}, {"aggregate": "count"}], groupBy=["plan"])
    assert [tuple(row.values()) for row in rows] == [("50% off_", 1), ("free", 1), ("pro", 2), (None, 2)]


def test_null_comes_last_in_both_directions(orders: Store) -> None:
    for direction, first in (("asc", "50% off_"), ("desc", "pro")):
        order = [{"field": "plan", "direction": direction}]
        found = orders.rows(select=[{"field": "plan"}], groupBy=["plan"], orderBy=order)
        assert [found[0]["plan"], found[-1]["plan"]] == [first, None]


def test_groups_with_the_same_value_have_a_stable_order(orders: Store) -> None:
    select = [{"field": "country"}, {"aggregate": "count", "as": "country_count"}]
    order = [{"field": "country_count", "direction": "desc"}]
    rows = orders.rows(select=select, groupBy=["country", "plan"], orderBy=order)
    assert [row["country"] for row in rows] == ["DE", "FR", "FR", "FR", "RO", "RO"]


def test_a_group_of_uuids_is_in_lower_case(orders: Store) -> None:
    found = orders.rows(select=[{"field": "order"}], groupBy=["order"], where=[{"field": "order", "op": "is_not_null"}])
    assert found == [{"order": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}]


def test_texts_are_sorted_by_code_points(store: Store) -> None:
    texts = ["a", "B", "é", "\N{GRINNING FACE}", "\ufffd", "", "Z"]
    store.add([Field("x", "string")], *({"x": text} for text in texts))
    found = store.rows(select=[{"field": "x"}], orderBy=[{"field": "x"}])
    assert [row["x"] for row in found] == sorted(texts)
    assert only(store, "max", "x")[1] == "\N{GRINNING FACE}"


def test_positive_and_negative_zero_are_one_group(store: Store) -> None:
    store.add([Field("x", "number")], {"x": 0.0}, {"x": -0.0})
    assert store.rows(select=[{"aggregate": "count"}], groupBy=["x"]) == [{"count": 2}]
    assert only(store, "count_distinct", "x")[1] == 1


@pytest.mark.parametrize(
    ("type_name", "function", "values"),
    [
        ("number", "sum", [1.7e308, 1.7e308]),
        ("number", "avg", [1.7e308, 1.7e308]),
        ("integer", "sum", [2**63 - 1, 1]),
        ("decimal(38,0)", "sum", [Decimal(BIG), Decimal(1)]),
        ("decimal(38,0)", "sum", [Decimal(BIG)] * 3),
    ],
)
def test_a_result_that_is_too_large_is_refused(store: Store, type_name: str, function: str, values: list[Any]) -> None:
    store.add([Field("x", type_name)], *({"x": value} for value in values))
    with pytest.raises(ResultOutOfRange) as refused:
        only(store, function, "x")
    assert refused.value.at.startswith("select")


def test_sums_are_exact_up_to_their_limits(store: Store) -> None:
    store.add(
        [Field("i", "integer"), Field("d", "decimal(38,0)"), Field("x", "number")],
        {"i": 2**63 - 1, "d": Decimal(BIG), "x": 0.1},
        {"i": 2**63 - 1, "d": Decimal(-1), "x": 0.2},
        {"i": -(2**63) + 1, "d": Decimal(1), "x": 0.3},
    )
    assert only(store, "sum", "i")[1] == 2**63 - 1
    assert only(store, "sum", "d")[1] == Decimal(BIG)
    assert only(store, "avg", "i")[1] == pytest.approx((2**63 - 1) / 3)
    assert only(store, "sum", "x")[1] == 0.6  # adding one after the other gives 0.6000000000000001
