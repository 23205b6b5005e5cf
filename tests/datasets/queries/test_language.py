"""Wrong queries: what is refused, where, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasets.queries.errors import InvalidQuery
from datasets.queries.language import parse
from datasets.queries.parsing.values import read_json
from datasets.queries.query import Query
from datasets.schemas.fields import Field
from tests.datasets.queries.conftest import FIELDS, NOW


def checked(body: Any) -> Query:
    return parse(body, FIELDS, now=NOW)


def condition(field: str, op: str, *value: Any) -> dict[str, Any]:
    return {"where": [{"field": field, "op": op, **({"value": value[0]} if value else {})}]}


REFUSED: dict[str, tuple[Any, str, str, str]] = {
    "list": ([], "", "object", "array"),
    "text": ("SELECT 1", "", "object", '"SELECT 1"'),
    "unknown member": ({"sql": "x"}, "sql", "one of range, select, where", '"x"'),
    "member in another case": ({"groupby": []}, "groupby", "one of range", "array"),
    "range is a list": ({"range": []}, "range", "object", "array"),
    "range is null": ({"range": None}, "range", "object", "null"),
    "range without an offset": ({"range": {"from": "2026-06-01T00:00:00"}}, "range.from", "RFC 3339", '"2026'),
    "range as a number": ({"range": {"to": 1}}, "range.to", "RFC 3339", "1"),
    "unknown member of range": ({"range": {"until": 1}}, "range.until", "one of from, to", "1"),
    "range that ends before it begins": (
        {"range": {"from": "2026-06-02T00:00:00Z", "to": "2026-06-01T00:00:00Z"}},
        "range.from",
        "not after range.to",
        '"2026-06-02T00:00:00Z"',
    ),
    "select is empty": ({"select": []}, "select", "array of 1 to 250 elements", "array"),
    "select a text": ({"select": ["country"]}, "select[0]", "object", '"country"'),
    "select nothing": ({"select": [{}]}, "select[0].field", "one of timestamp", "nothing"),
    "select an unknown field": ({"select": [{"field": "Country"}]}, "select[0].field", "country", '"Country"'),
    "select a column that is not queryable": ({"select": [{"field": "project_id"}]}, "select[0].field", "one of", ""),
    "select an unknown member": ({"select": [{"field": "plan", "sum": 1}]}, "select[0].sum", "one of field, as", "1"),
    "name twice": (
        {"select": [{"field": "plan"}, {"field": "country", "as": "plan"}]},
        "select[1].as",
        "no other column",
        "",
    ),
    "name with a quote": ({"select": [{"field": "plan", "as": 'a"b'}]}, "select[0].as", "letters", ""),
    "name that is empty": ({"select": [{"field": "plan", "as": ""}]}, "select[0].as", "letters", '""'),
    "unknown aggregate": ({"select": [{"aggregate": "stddev"}]}, "select[0].aggregate", "median, p90", '"stddev"'),
    "sum of nothing": ({"select": [{"aggregate": "sum"}]}, "select[0].field", "amount, quantity, price", "nothing"),
    "sum of a text": ({"select": [{"aggregate": "sum", "field": "plan"}]}, "select[0].field", "amount", '"plan"'),
    "max of a boolean": ({"select": [{"aggregate": "max", "field": "active"}]}, "select[0].field", "amount", ""),
    "count of the context": ({"select": [{"aggregate": "count", "field": "context"}]}, "select[0].field", "plan", ""),
    "plain field beside an aggregate": (
        {"select": [{"field": "plan"}, {"aggregate": "count"}]},
        "select[0]",
        "field of groupBy",
        '"plan"',
    ),
    "plain field that is not grouped": ({"select": [{"field": "plan"}], "groupBy": ["country"]}, "select[0]", "", ""),
    "unknown bucket": ({"select": [{"bucket": "year", "field": "timestamp"}]}, "select[0].bucket", "month", '"year"'),
    "bucket of a number": ({"select": [{"bucket": "day", "field": "amount"}]}, "select[0].field", "signup_at", ""),
    "bucket that is not grouped": ({"select": [{"bucket": "day", "field": "timestamp"}]}, "select[0]", "groupBy", ""),
    "unknown time zone": (
        {"select": [{"bucket": "day", "field": "timestamp", "timezone": "Europe/Bukarest"}], "groupBy": ["day"]},
        "select[0].timezone",
        "IANA",
        '"Europe/Bukarest"',
    ),
    "time zone of a path": (
        {"select": [{"bucket": "day", "field": "timestamp", "timezone": "../../etc/passwd"}], "groupBy": ["day"]},
        "select[0].timezone",
        "IANA",
        "",
    ),
    "where is an object": ({"where": {}}, "where", "array of 0 to 50", "object"),
    "where without an operator": (
        {"where": [{"field": "plan"}]},
        "where[0].op",
        "= , !=".replace(" ,", ","),
        "nothing",
    ),
    "unknown operator": (condition("plan", "~", "x"), "where[0].op", "=, !=, in, not_in, contains", '"~"'),
    "operator of another type": (condition("plan", "<", "x"), "where[0].op", "starts_with", '"<"'),
    "less than a boolean": (condition("active", "<", True), "where[0].op", "one of =, !=", '"<"'),
    "null of a required field": (condition("country", "is_null"), "where[0].op", "one of =", '"is_null"'),
    "condition on the context": (condition("context", "contains", "x"), "where[0].field", "country", '"context"'),
    "condition on json that is required": (condition("details", "=", "x"), "where[0].op", "is_null", '"="'),
    "no value": (condition("plan", "="), "where[0].value", "string", "nothing"),
    "null as a value": (condition("plan", "=", None), "where[0].value", "string", "null"),
    "value of is_null": (condition("plan", "is_null", True), "where[0].value", "nothing", "true"),
    "number as a text": (condition("amount", ">", "20"), "where[0].value", "number", '"20"'),
    "boolean as a number": (condition("amount", ">", True), "where[0].value", "number", "true"),
    "number beyond a double": (condition("amount", ">", 10**400), "where[0].value", "number", ""),
    "not a number": (condition("amount", ">", float("nan")), "where[0].value", "number", "NaN"),
    "text as a boolean": (condition("active", "=", "true"), "where[0].value", "boolean", '"true"'),
    "timestamp without an offset": (condition("timestamp", ">", "2026-06-10"), "where[0].value", "RFC 3339", ""),
    "integer with a point": (condition("quantity", "=", 1.0), "where[0].value", "integer", "1.0"),
    "integer beyond 64 bits": (condition("quantity", "=", 2**63), "where[0].value", "integer", "9223372036854775808"),
    "decimal that does not fit": (condition("price", "=", "1.005"), "where[0].value", "decimal(10,2)", '"1.005"'),
    "date with a time": (condition("day", "=", "2026-06-10T00:00:00Z"), "where[0].value", "full-date", ""),
    "no UUID": (condition("order", "=", "f81d4fae"), "where[0].value", "UUID", '"f81d4fae"'),
    "value that an enum does not have": (condition("state", "=", "paidd"), "where[0].value", '"open", "paid"', ""),
    "element of another type": (condition("sizes", "contains", "1"), "where[0].value", "integer", '"1"'),
    "lone surrogate": (condition("plan", "=", "\ud800"), "where[0].value", "string", '"\\ud800"'),
    "in without an array": (condition("plan", "in", "pro"), "where[0].value", "array of 1 to 1000", '"pro"'),
    "in without values": (condition("plan", "in", []), "where[0].value", "array of 1 to 1000", "array"),
    "wrong element of in": (condition("plan", "in", ["a", 1]), "where[0].value[1]", "string", "1"),
    "second condition": (
        {"where": [{"field": "plan", "op": "is_null"}, {"field": "amount", "op": "like", "value": 1}]},
        "where[1].op",
        "not_in",
        '"like"',
    ),
    "group by an unknown name": ({"groupBy": ["x"]}, "groupBy[0]", "country", '"x"'),
    "group by json": ({"groupBy": ["details"]}, "groupBy[0]", "country", '"details"'),
    "group by a list": ({"groupBy": [[]]}, "groupBy[0]", "country", "array"),
    "group twice": ({"groupBy": ["plan", "plan"]}, "groupBy[1]", "not listed yet", '"plan"'),
    "order by a text": ({"orderBy": ["plan"]}, "orderBy[0]", "object", '"plan"'),
    "order by what is not in the result": ({"orderBy": [{"field": "plan"}]}, "orderBy[0].field", "count", '"plan"'),
    "order by an array": (
        {"select": [{"field": "tags"}], "orderBy": [{"field": "tags"}]},
        "orderBy[0].field",
        "one of",
        '"tags"',
    ),
    "direction": (
        {"orderBy": [{"field": "count", "direction": "down"}]},
        "orderBy[0].direction",
        "one of asc, desc",
        '"down"',
    ),
    "limit of 0": ({"limit": 0}, "limit", "integer, 1 to 1000", "0"),
    "limit as a text": ({"limit": "10"}, "limit", "integer", '"10"'),
    "limit as a boolean": ({"limit": True}, "limit", "integer", "true"),
    "limit as a double": ({"limit": 10.0}, "limit", "integer", "10.0"),
    "limit of null": ({"limit": None}, "limit", "integer", "null"),
    "cursor of a count": ({"cursor": "x"}, "cursor", "nothing", '"x"'),
    "no cursor": ({"select": [{"field": "id"}], "cursor": "x"}, "cursor", "the cursor of the answer", '"x"'),
    "cursor of null": ({"select": [{"field": "id"}], "cursor": None}, "cursor", "the cursor of the answer", "null"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_query_is_refused(case: str) -> None:
    body, at, expected, received = REFUSED[case]
    with pytest.raises(InvalidQuery) as refused:
        checked(body)
    assert refused.value.at == at
    assert expected in refused.value.expected
    assert received in refused.value.received
    assert refused.value.problems[0].detail.endswith(".")
    assert all(all(each.as_json().values()) or not each.at for each in refused.value.problems)


@pytest.mark.parametrize("aggregate", ["sum", "median"])
def test_a_choice_without_choices_says_so(aggregate: str) -> None:
    body = {"select": [{"aggregate": aggregate, "field": "country"}]}
    with pytest.raises(InvalidQuery) as refused:
        parse(body, [Field("country", "string")], now=NOW)
    (problem,) = refused.value.problems
    assert (problem.at, problem.expected) == ("select[0].field", "nothing")
    assert problem.detail == (
        f"No field for “{aggregate}” can be used here: the dataset or the query has none that fits."
    )


def test_several_problems_are_reported_in_order() -> None:
    with pytest.raises(InvalidQuery) as refused:
        checked({"limit": 0, "select": [{"field": "x"}], "where": [{"field": "plan", "op": "=", "value": 1}], "a": 1})
    assert [each.at for each in refused.value.problems] == ["a", "select[0].field", "where[0].value", "limit"]


DAY = {"bucket": "day", "field": "timestamp"}
COUNTED: dict[str, Any] = {"groupBy": ["day"], "orderBy": [{"field": "day"}]}
ONE_CAUSE: list[tuple[dict[str, Any], str, str]] = [
    (condition("plan", "=", "x" * 10_001), "where[0].value", "at most 10,000 characters. This one has 10,001."),
    (condition("plan", "contains", "x" * 10_001), "where[0].value", "at most 10,000 characters. This one has 10,001."),
    (condition("plan", "in", ["a", "\ud800"]), "where[0].value[1]", "has half of a surrogate pair"),
    (condition("amount", "=", "x" * 10_001), "where[0].value", "The value must be: number"),
    ({"orderBy": ["country"]}, "orderBy[0]", "must be an object"),
    ({**COUNTED, "select": [{**DAY, "timezone": "Mars"}]}, "select[0].timezone", "time zone is not known"),
    ({**COUNTED, "select": [{**DAY, "bucket": "dya", "as": "day"}]}, "select[0].bucket", "bucket is not known"),
    ({**COUNTED, "select": "day"}, "select", "must be an array"),
    ({"select": [{"aggregate": "sun", "as": "n"}], "orderBy": [{"field": "n"}]}, "select[0].aggregate", "not known"),
    ({"select": [DAY], "groupBy": ["dya"], "orderBy": [{"field": "day"}]}, "groupBy[0]", "not known"),
    ({"groupBy": ["nation"], "orderBy": [{"field": "country"}]}, "groupBy[0]", "not known"),
    ({"range": {"from": "2999-01-01T00:00:00Z", "to": "soon"}}, "range.to", "not like"),
]


@pytest.mark.parametrize(("body", "at", "detail"), ONE_CAUSE)
def test_only_the_cause_of_a_problem_is_reported(body: dict[str, Any], at: str, detail: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        checked(body)
    (problem,) = refused.value.problems
    assert problem.at == at
    assert detail in problem.detail


def test_at_most_twenty_problems_are_reported() -> None:
    with pytest.raises(InvalidQuery) as refused:
        checked({"select": [{"field": f"x{n}"} for n in range(100)]})
    assert len(refused.value.problems) == 20


@pytest.mark.parametrize(
    "body",
    [
        {"where": [{"field": "plan", "op": "is_null"}] * 51},
        {"where": [{"field": "plan", "op": "in", "value": ["x"] * 1001}]},
        {"select": [{"field": "plan", "as": f"x{n}"} for n in range(251)]},
        {"groupBy": ["plan"] * 11},
        {"select": [{"field": "plan"}], "orderBy": [{"field": "plan"}] * 11},
        {"where": [{"field": "plan", "op": "=", "value": "x" * 10_001}]},
        {"select": [{"field": "id"}], "cursor": "x" * 501},
    ],
)
def test_a_query_has_a_maximum_size(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        checked(body)


def test_names_and_values_are_cut_in_errors() -> None:
    with pytest.raises(InvalidQuery) as refused:
        checked({"x" * 1000: "y" * 1000})
    assert len(refused.value.at) == len(refused.value.received) == 100


def test_the_range_is_the_last_seven_days_by_default() -> None:
    query = checked({})
    assert (query.start, query.end) == (NOW - timedelta(days=7), NOW)
    assert checked({"range": {"to": "2026-06-08T00:00:00Z"}}).start == datetime(2026, 6, 1, tzinfo=UTC)
    assert checked({"range": {"from": "2026-06-08T00:00:00Z"}}).end == NOW


def test_the_range_may_begin_with_the_first_moment() -> None:
    query = checked({"range": {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}})
    assert query.start.year == 1
    assert checked({"range": {"to": "0001-01-02T00:00:00Z"}}).start == datetime(1, 1, 1, tzinfo=UTC)


def test_the_limit_is_capped() -> None:
    assert checked({}).limit == 100
    assert checked({"limit": 1000}).limit == checked({"limit": 10**30}).limit == 1000


def test_read_json_keeps_the_spelling_of_numbers() -> None:
    body = read_json(b'{"where": [{"field": "price", "op": "=", "value": 12345678.90}]}')
    assert str(checked(body).where[0].values[0]) == "12345678.90"
    with pytest.raises(InvalidQuery) as refused:
        checked(read_json(b'{"where": [{"field": "quantity", "op": "=", "value": 1e3}]}'))
    assert (refused.value.at, refused.value.received) == ("where[0].value", "1e3")


@pytest.mark.parametrize("text", [b"{", b'{"a": 1, "a": 2}', b"NaN", b"\xff", b"[" * 100_000])
def test_read_json_refuses_what_is_not_json(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)


def test_a_number_may_be_a_large_integer() -> None:
    assert checked(condition("amount", ">", 10**30)).where[0].values == (1e30,)
