"""Which table is read, and which of its files."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from django.conf import settings

from datasets import services
from datasets.models import Dataset, Project
from datasets.queries import engine
from datasets.queries.columns import fields_of
from datasets.queries.errors import QueryTooLarge, QueryTooSlow
from datasets.queries.execution.snapshot import Location
from datasets.queries.language import parse
from datasets.schemas.fields import Field
from datasets.tables import maintenance
from datasets.tables.storage import ForeignTable, RecordsUnreadable, TableGone
from tests.conftest import Api, stored
from tests.datasets.queries.conftest import NOW, Store, at

FIELDS = [Field("x", "integer"), Field("text", "string")]
DAYS = 10


@pytest.fixture
def days(store: Store) -> Store:
    """A file of two rows for each of ten days. Both rows have the same time on that day. NOW is on the last day."""
    for number in range(DAYS):
        moment = NOW - timedelta(days=DAYS - 1 - number)
        row = {"text": f"{number}", "ingested_at": moment, "timestamp": moment}
        store.add(FIELDS, {**row, "x": number}, {**row, "x": number + 100}, day=moment.date())
    return store


def files(store: Store, **body: Any) -> int:
    return store.run(**body).stats.files_scanned


@pytest.mark.parametrize("is_compacted", [False, True])
def test_only_files_that_may_have_rows_are_read(days: Store, is_compacted: bool) -> None:
    if is_compacted:
        maintenance.tidy(days.table)
    ever = {"range": {"from": "2020-01-01T00:00:00Z"}}
    everything = days.run(**ever)
    assert everything.rows["count"].to_pylist() == [2 * DAYS]
    assert everything.stats.files_scanned == DAYS
    assert files(days) == 8  # the last 7 days begin and end in the middle of a day
    one_day = days.run(range={"from": "2026-06-10T00:00:00Z", "to": "2026-06-10T23:59:59Z"})
    assert (one_day.rows["count"].to_pylist(), one_day.stats.files_scanned) == ([2], 1)
    assert one_day.stats.bytes_scanned == pytest.approx(everything.stats.bytes_scanned / DAYS, rel=0.1)
    for field, op, value, expected in (
        ("x", "=", 3, 4),  # 3 lies between the two values of the files of 0 to 3
        ("x", ">=", 109, 1),
        ("x", "in", [109], 1),
        ("text", "=", "3", 1),
        ("text", "in", ["3", "4"], 2),
        ("ingested_at", "<", (NOW - timedelta(days=8)).isoformat(), 2),
        ("x", "!=", 3, DAYS),
    ):
        assert files(days, where=[{"field": field, "op": op, "value": value}], **ever) == expected, (field, op)


@pytest.mark.parametrize("year", [1900, 2026])
def test_a_file_is_found_by_its_exact_times(store: Store, year: int) -> None:
    """After a compaction, the least and the greatest time in the statistics have no microseconds."""
    texts = [f"{year}-06-10T10:58:00.{micros}Z" for micros in ("123111", "123456", "123999")]
    for text in texts:
        store.add(FIELDS, {"x": 1, "text": "", "timestamp": at(text)})
    store.table.delta.optimize.compact()
    store.table.refresh()
    assert len(pa.table(store.table.delta.get_add_actions())) == 1
    for text in texts:
        assert store.rows(range={"from": text, "to": text}) == [{"count": 1}]
    found = store.run(select=[{"field": "timestamp"}], range={"from": texts[0], "to": texts[2]}, limit=1)
    assert (found.rows.to_pylist(), found.truncated) == ([{"timestamp": at(texts[2])}], True)


def test_a_record_is_found_by_its_own_time_and_not_by_its_day(store: Store) -> None:
    store.add(FIELDS, {"x": 1, "text": "", "timestamp": at("1999-12-31T23:59:59Z")}, day=date(2026, 6, 15))
    assert store.rows() == [{"count": 0}]
    assert store.rows(range={"from": "1999-01-01T00:00:00Z", "to": "2000-01-01T00:00:00Z"}) == [{"count": 1}]


def test_long_texts_are_found_though_statistics_cut_them(store: Store) -> None:
    texts = ["a" * 200, "\N{GRINNING FACE}" * 100]
    store.add(FIELDS, *({"x": 1, "text": text} for text in texts))
    store.table.delta.optimize.compact()
    for text in texts:
        assert store.values("text", where=[{"field": "text", "op": "=", "value": text}]) == [text]


def test_rows_of_files_without_a_column_are_null(store: Store) -> None:
    store.add(FIELDS, {"x": 1, "text": "a"})
    store.fields = [*FIELDS, Field("later", "decimal(10,2)")]
    assert store.values("later") == [None]  # no file has the column
    store.add([*store.fields, Field("last", "string[]")], {"x": 2, "text": "b", "later": None, "last": ["y"]})
    assert store.values("last") == [None, ["y"]]
    assert store.rows(select=[{"aggregate": "sum", "field": "later", "as": "sum"}]) == [{"sum": None}]


def test_the_table_is_in_a_directory_with_any_name(tmp_path: Path) -> None:
    settings.STORAGE_URL = str(tmp_path / 'it\'s *a* {b} "c"? d')
    store = Store()
    store.add(FIELDS, {"x": 1, "text": "a"})
    assert store.values("x") == [1]


def test_a_table_that_is_missing_is_an_error_if_it_existed(store: Store) -> None:
    with pytest.raises(TableGone):
        engine.run(store.query(), replace(store.location, must_exist=True))


def test_a_table_of_another_dataset_is_not_read(store: Store) -> None:
    store.add(FIELDS, {"x": 1, "text": "a"})
    with pytest.raises(ForeignTable):
        engine.run(store.query(), replace(store.location, table_id=str(uuid.uuid4())))


def test_a_file_that_is_missing_is_an_error(store: Store) -> None:
    store.add(FIELDS, {"x": 1, "text": "a"})
    for path in Path(store.table.uri).glob("*/*.parquet"):
        path.write_bytes(b"damaged")
    with pytest.raises(RecordsUnreadable):
        store.run()
    for folder in Path(store.table.uri).glob("ingested-on=*"):
        shutil.rmtree(folder)
    with pytest.raises(RecordsUnreadable):
        store.run()


def test_a_query_has_limits(store: Store) -> None:
    store.add(FIELDS, *({"x": n, "text": f"{n}" * 20} for n in range(20_000)))
    query = store.query(select=[{"aggregate": "count_distinct", "field": "text"}])
    with pytest.raises(QueryTooLarge):
        engine.run(query, store.location, memory_bytes=1_000_000)
    with pytest.raises(QueryTooSlow):
        engine.run(query, store.location, seconds=0)


def test_an_archived_dataset_can_be_queried(api: Api, dataset: Dataset) -> None:
    record = {"timestamp": "2026-06-10T10:58:00Z", "context": {"a": 1}, "country": "RO", "plan": "pro", "amount": 1.5}
    assert api.one({**record, "active": True, "signup_at": "2026-06-01T08:00:00+02:00"}).status_code == 202
    stored(dataset)
    dataset.refresh_from_db()
    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    fields = fields_of(dataset)
    assert fields is not None
    select = [{"field": name} for name in ("timestamp", "country", "amount", "signup_at", "context", "__traceId")]
    query = parse({"range": {"from": "2026-06-10T00:00:00Z"}, "select": select}, fields)
    answer = engine.run(query, Location.of(dataset))
    (row,) = answer.rows.to_pylist()
    assert row.pop("__traceId")
    assert row == {
        "timestamp": at("2026-06-10T10:58:00Z"),
        "country": "RO",
        "amount": 1.5,
        "signup_at": at("2026-06-01T06:00:00Z"),
        "context": '{"a": 1}',
    }
    assert [column.type for column in answer.columns] == [
        "timestamp", "string", "number", "timestamp", "json", "string"
    ]  # fmt: skip


def test_fields_are_optional_if_an_earlier_version_lacks_them(project: Project) -> None:
    first = [Field("kept", "string"), Field("state", "enum", values=("a", "b")), Field("gone", "number")]
    dataset = services.create_dataset(project=project, name="d", fields=first)
    second = [first[0], Field("state", "enum", values=("b", "c")), Field("new", "number")]
    services.save_dataset(dataset, fields=second)
    assert fields_of(dataset) == [
        Field("kept", "string"),
        Field("state", "enum", values=("b", "c", "a")),
        Field("new", "number", optional=True),
    ]
    assert fields_of(services.create_dataset(project=project, name="empty")) is None


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("field", ["timestamp", "x", "text"])
def test_the_first_of_many_wide_records_need_little_memory(store: Store, field: str, direction: str) -> None:
    count = 40_000
    wide = "wide" * 200
    rows = [
        {"x": n, "text": f"{n:06}", "context": f"{wide}{n}", "timestamp": NOW - timedelta(microseconds=count - n)}
        for n in range(count)
    ]
    store.add(FIELDS, *rows)
    query = store.query(
        select=[{"field": "x"}, {"field": "context"}], orderBy=[{"field": field, "direction": direction}], limit=3
    )
    answer = engine.run(query, store.location, memory_bytes=32_000_000)
    assert answer.rows["x"].to_pylist() == ([0, 1, 2] if direction == "asc" else [count - 1, count - 2, count - 3])
