"""Cursors: each record is on exactly one page, even if the files change between the pages."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from datasets.queries import engine
from datasets.queries.errors import InvalidQuery
from datasets.queries.language import parse
from datasets.schemas.fields import Field
from datasets.tables import maintenance
from tests.datasets.queries.conftest import NOW, Store

FIELDS = [Field("x", "integer", optional=True), Field("text", "string")]


def add(store: Store, *values: int | None) -> None:
    store.add(FIELDS, *({"x": value, "text": f"text {value}"} for value in values))


def pages(store: Store, **body: Any) -> Iterator[list[Any]]:
    """Yield the values of `x` of each page."""
    cursor: dict[str, str] = {}
    while True:
        answer = store.run(**{"select": [{"field": "x"}], **body, **cursor})
        yield answer.rows["x"].to_pylist()
        assert answer.truncated == (answer.cursor is not None)
        if answer.cursor is None:
            return
        cursor = {"cursor": answer.cursor}


def test_pages_have_each_record_once(store: Store) -> None:
    add(store, 5, 3, None, 3, 1, None, 3)
    order = [{"field": "x"}]
    assert list(pages(store, orderBy=order, limit=2)) == [[1, 3], [3, 3], [5, None], [None]]
    order = [{"field": "x", "direction": "desc"}]
    assert list(pages(store, orderBy=order, limit=3)) == [[5, 3, 3], [3, 1, None], [None]]


def test_pages_may_be_sorted_by_several_keys(store: Store) -> None:
    add(store, 2, 1, 2, None, 1)
    order = [{"field": "text", "direction": "desc"}, {"field": "x"}]
    assert list(pages(store, orderBy=order, limit=1)) == [[None], [2], [2], [1], [1]]


def test_the_newest_record_comes_first_by_default(store: Store) -> None:
    store.add(FIELDS, *({"x": n, "text": "", "timestamp": NOW - timedelta(hours=n)} for n in (2, 0, 1, 1)))
    assert list(pages(store, limit=3)) == [[0, 1, 1], [2]]


def test_a_full_last_page_has_no_next_page(store: Store) -> None:
    add(store, 1, 2)
    assert list(pages(store, limit=2)) == [[1, 2]]


def test_pages_continue_after_compaction_and_vacuum(store: Store) -> None:
    for value in range(6):
        add(store, value)
    read = pages(store, orderBy=[{"field": "x"}], limit=2)
    assert next(read) == [0, 1]
    files = store.run(select=[{"field": "x"}]).stats.files_scanned
    maintenance.tidy(store.table)
    assert store.run(select=[{"field": "x"}]).stats.files_scanned < files
    assert list(read) == [[2, 3], [4, 5]]


def test_a_record_stored_between_pages_can_be_on_a_later_page(store: Store) -> None:
    add(store, 10, 20, 30)
    read = pages(store, orderBy=[{"field": "x"}], limit=2)
    assert next(read) == [10, 20]
    add(store, 15, 25)
    assert list(read) == [[25, 30]]


def test_all_pages_have_the_range_of_the_first_page(store: Store) -> None:
    add(store, 1, 2)
    first = store.run(select=[{"field": "x"}], limit=1)
    later = parse({"select": [{"field": "x"}], "cursor": first.cursor}, FIELDS, now=NOW + timedelta(days=30))
    assert engine.run(later, store.location).rows.num_rows == 1


def test_the_limit_may_change_between_pages(store: Store) -> None:
    add(store, 1, 2, 3, 4)
    first = store.run(select=[{"field": "x"}], limit=1)
    assert store.run(select=[{"field": "x"}], limit=3, cursor=first.cursor).rows["x"].to_pylist() == [2, 3, 4]


def test_a_cursor_of_another_query_is_refused(store: Store) -> None:
    add(store, 1, 2)
    cursor = store.run(select=[{"field": "x"}], limit=1).cursor
    others: list[dict[str, Any]] = [{"select": [{"field": "text"}]}, {"orderBy": [{"field": "x"}]}, {"range": {}}]
    for other in others:
        with pytest.raises(InvalidQuery) as refused:
            store.query(**{"select": [{"field": "x"}], **other, "cursor": cursor})
        assert (refused.value.at, refused.value.expected) == ("cursor", "the cursor of the answer to the same query")


def test_a_cursor_whose_record_is_gone_is_refused(store: Store) -> None:
    add(store, 1, 2)
    body = {"select": [{"field": "x"}], "limit": 1}
    cursor = store.run(**body).cursor
    store.table.delta.delete()
    with pytest.raises(InvalidQuery) as refused:
        store.run(**body, cursor=cursor)
    assert refused.value.at == "cursor"
    assert "no longer in the table" in str(refused.value)


@pytest.mark.parametrize("text", ["", "AA", "!", "x" * 400, "é", base64.b64encode(b'["a",1]').decode(), "W10"])
def test_any_other_text_is_refused_as_a_cursor(store: Store, text: str) -> None:
    store.fields = FIELDS
    with pytest.raises(InvalidQuery) as refused:
        store.query(select=[{"field": "x"}], cursor=text)
    assert refused.value.at == "cursor"
