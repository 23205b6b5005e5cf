"""An export with a query's conditions has exactly the records that the query finds."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from deltalake import QueryBuilder

from datasets.queries.engine import run
from datasets.queries.errors import InvalidQuery
from datasets.queries.execution import filters
from datasets.queries.language import parse
from datasets.queries.query import Query
from datasets.schemas.fields import Field
from datasets.tables.records import Selection
from tests.datasets.queries.conftest import FIELDS, Store, at

HOSTILE = ("it's", "' OR true --", '"', "\\", "\\'", "%", "_", "a\x01b", "ü😀", "", "null", "')", "${x}", "$1", "?")
UUID = "F81D4FAE-7dec-11d0-a765-00a0c91e6bf6"
ALL = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}


def ids(store: Store, query: Query) -> list[str]:
    """Return the IDs of the records that an export would have."""
    where = Selection(terms=filters.terms(query, store.table.delta.schema().to_arrow().names)).where()
    builder = QueryBuilder().register("records", store.table.delta)
    return [str(each) for each in pa.table(builder.execute(f"SELECT id FROM records {where} ORDER BY id"))["id"]]


def condition(field: str, op: str, *value: Any) -> list[dict[str, Any]]:
    return [{"field": field, "op": op, **({"value": value[0]} if value else {})}]


CONDITIONS = [
    *(
        condition(field, op, value)
        for field, value in (
            ("country", "RO"),
            ("amount", -1.5),
            ("amount", 42.5),
            ("amount", 0),
            ("amount", 1e300),
            ("quantity", 3),
            ("quantity", 2**62),
            ("price", 12.5),
            ("price", 0.1),
            ("day", "2026-06-13"),
            ("order", UUID.lower()),
            ("order", UUID.upper()),
            ("state", "open"),
            ("active", True),
            ("signup_at", "2026-06-01T10:00:00+02:00"),
            ("timestamp", "2026-06-12T10:00:00Z"),
        )
        for op in ("=", "!=", "<", "<=", ">", ">=", "in", "not_in")
    ),
    *(condition("plan", op, value) for op in ("contains", "starts_with", "=", "!=") for value in ("50%", *HOSTILE)),
    condition("country", "in", ["RO", "DE", "' OR true --"]),
    condition("plan", "not_in", ["pro"]),
    condition("plan", "is_null"),
    condition("price", "is_not_null"),
    condition("tags", "contains", "50%"),
    condition("tags", "contains", "it's"),
    condition("sizes", "contains", 2),
    condition("visits", "contains", "2026-06-13T10:00:00Z"),
    condition("id", "starts_with", "1781524800000-0-00000"),
    condition("__traceId", "=", "trace-2"),
]


@pytest.fixture
def texts(store: Store) -> Store:
    """A row for each hostile text, and some rows with texts that have a common beginning."""
    first = {"country": "XX", "amount": 1.0, "active": True, "signup_at": at("2026-06-01T08:00:00+00:00")}
    plans = (*HOSTILE, "profit", "profile", "profile")
    store.add(FIELDS, *({**first, "plan": text, "tags": [text]} for text in plans))
    return store


def test_the_same_records_meet_each_condition(orders: Store, texts: Store) -> None:
    checked = 0
    for store in (orders, texts):
        for where in CONDITIONS:
            try:
                query = store.query(range=ALL, where=where)
            except InvalidQuery:
                continue  # the type does not have this operator
            assert ids(store, query) == store.values("id", range=ALL, where=where), where
            checked += 1
    assert checked > 260


def test_the_range_of_timestamps_counts(orders: Store) -> None:
    limits = {"from": "2026-06-11T10:00:00Z", "to": "2026-06-12T10:00:00Z"}
    found = ids(orders, orders.query(range=limits))
    assert len(found) == 2
    assert found == orders.values("id", range=limits)


def test_a_column_that_the_table_does_not_have_yet_is_null(orders: Store) -> None:
    fields = [*orders.fields, Field("later", "number", optional=True)]
    for op, value in (("=", 1), ("!=", 1), ("not_in", [1]), ("is_null", None), ("is_not_null", None)):
        where = condition("later", op) if value is None else condition("later", op, value)
        query = parse({"range": ALL, "where": where}, fields)
        assert len(ids(orders, query)) == (6 if op == "is_null" else 0)
        assert run(query, orders.location).rows["count"].to_pylist() == [len(ids(orders, query))]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [("tags", "string", "[ne"), ("details", "string", '{"a'), ("price", "decimal(10,2)", Decimal("12.50"))],
)
def test_a_shortened_query_has_the_beginning_of_long_values(orders: Store, name: str, kind: str, expected: Any) -> None:
    query = orders.query(range=ALL, select=[{"field": name}], orderBy=[{"field": "id"}]).shortened(3)
    result = run(query, orders.location)
    assert result.rows[name].to_pylist()[3] == expected
    assert [each.type for each in result.columns] == [kind]


def test_a_shortened_query_groups_by_whole_values(texts: Store) -> None:
    where = condition("plan", "starts_with", "pro")
    body = {"select": [{"field": "plan"}, {"aggregate": "count"}], "groupBy": ["plan"], "where": where}
    rows = run(texts.query(range=ALL, **body).shortened(3), texts.location).rows.to_pylist()
    assert rows == [{"plan": "pro", "count": 2}, {"plan": "pro", "count": 1}]
