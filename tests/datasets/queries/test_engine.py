"""Queries of a table: the answer, and what was read for it."""

from __future__ import annotations

from tests.datasets.queries.conftest import Store


def test_a_query_without_members_counts_the_last_seven_days(orders: Store) -> None:
    answer = orders.run()
    assert answer.rows.to_pylist() == [{"count": 6}]
    assert [(each.name, each.type) for each in answer.columns] == [("count", "integer")]
    assert (answer.truncated, answer.cursor) == (False, None)


def test_a_table_that_does_not_exist_has_no_rows(store: Store) -> None:
    assert store.rows() == [{"count": 0}]
    assert store.rows(select=[{"field": "timestamp"}]) == []
    assert store.run().stats.table_version == -1


def test_the_example_query_of_the_contract_works(orders: Store) -> None:
    found = orders.rows(
        range={"from": "2026-06-01T00:00:00Z", "to": "2026-06-10T23:59:59Z"},
        select=[{"field": "country"}, {"aggregate": "count", "as": "events"}],
        where=[{"field": "plan", "op": "=", "value": "pro"}, {"field": "amount", "op": ">", "value": 20}],
        groupBy=["country"],
        orderBy=[{"field": "events", "direction": "desc"}],
        limit=100,
    )
    assert found == [{"country": "RO", "events": 1}]
