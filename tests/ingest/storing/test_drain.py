"""The drain: what it commits, schemas that change, and servers that are missing."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError
from redis.exceptions import RedisError

from config.common import redis
from datasets import services
from datasets.models import Dataset
from datasets.schemas.fields import Field
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import formats, redis_keys, stream, turns
from ingest.storing import conversion
from ingest.storing import drain as drains
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api, record, stored
from tests.support.entries import (
    counters,
    enqueue,
    generation,
    in_stream,
    large,
    let_the_lock_expire,
    names_in_table,
    send,
    table_of,
)
from tests.support.servers.outages import database_away, redis_away


def commit(dataset: Dataset, version: int) -> list[dict[str, Any]]:
    """Return the actions of one commit from the table's log."""
    path = Path(table_of(dataset).table_uri.removeprefix("file://")) / "_delta_log" / f"{version:020}.json"
    return [json.loads(line) for line in path.read_text().splitlines()]


def positions(actions: list[dict[str, Any]]) -> dict[str, int]:
    return {each["txn"]["appId"]: each["txn"]["version"] for each in actions if "txn" in each}


# -- what is committed --------------------------------------------------------------------------------


def test_rows_watermark_and_count_change_in_one_commit(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    before = table_of(dataset).version()
    send(api, "b", "c")
    last = redis.client().xrevrange(redis_keys.stream(dataset.pk), count=1)[0][0].decode()
    drain(dataset.pk)
    assert table_of(dataset).version() == before + 1
    actions = commit(dataset, before + 1)
    assert sum(json.loads(each["add"]["stats"])["numRecords"] for each in actions if "add" in each) == 2
    assert positions(actions) == {
        f"queue-position-{generation()}": stream.position_of(last),
        f"queue-stored-{generation()}": 3,
    }


def test_commit_of_bad_entries_only_raises_the_watermark(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    before = table_of(dataset).version()
    last = enqueue(dataset, b"{}")
    assert drain(dataset.pk) == 0
    actions = commit(dataset, before + 1)
    assert not any("add" in each or "remove" in each for each in actions)
    assert positions(actions) == {
        f"queue-position-{generation()}": stream.position_of(last),
        f"queue-stored-{generation()}": 1,
    }
    assert in_stream(dataset) == 0
    assert drain(dataset.pk) == 0
    assert table_of(dataset).version() == before + 1


def test_dataset_whose_first_entry_is_bad_gets_its_table(api: Api, dataset: Dataset) -> None:
    enqueue(dataset, b"{}", version=0)
    drain(dataset.pk)
    send(api, "a")
    assert [row["country"] for row in stored(dataset)] == ["a"]
    assert balance(dataset).quarantined == 1


def test_damaged_compressed_body_goes_to_quarantine(api: Api, dataset: Dataset) -> None:
    damaged = formats.packed(large())[:-1]
    send(api, "a")
    enqueue(dataset, damaged)
    send(api, "b")
    assert drain(dataset.pk) == 2
    assert names_in_table(dataset) == ["a", "b"]
    assert bytes(QuarantinedEntry.objects.get(dataset=dataset).body) == damaged
    assert balance(dataset).adds_up


def test_empty_queue_causes_no_table_and_no_commit(api: Api, dataset: Dataset) -> None:
    assert drain(dataset.pk) == 0
    assert not DatasetTable(dataset.project_id, dataset.pk).refresh()
    send(api, "a")
    drain(dataset.pk)
    version = table_of(dataset).version()
    assert drain(dataset.pk) == 0
    assert table_of(dataset).version() == version


def test_backlog_is_stored_in_several_commits(api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_RECORDS", 3)
    for n in range(5):
        send(api, f"{n}a", f"{n}b", f"{n}c")
    assert drain(dataset.pk) == 15
    assert names_in_table(dataset) == [f"{n}{letter}" for n in range(5) for letter in "abc"]
    assert table_of(dataset).version() == 5


def test_entries_that_arrive_during_a_drain_wait_for_the_next(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a")
    turns.next_due()
    append = DatasetTable.append

    def slow(*args: Any, **kwargs: Any) -> None:
        send(api, "b")
        append(*args, **kwargs)

    monkeypatch.setattr(DatasetTable, "append", slow)
    assert drain(dataset.pk) == 1
    monkeypatch.undo()
    assert names_in_table(dataset) == ["a"]
    assert turns.next_due() == [dataset.pk]
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["a", "b"]
    assert turns.next_due() == []


def test_batch_that_was_queued_compressed_is_stored(api: Api, dataset: Dataset) -> None:
    names = [f"{n:04} {secrets.token_hex(8)}" for n in range(1000)]
    send(api, *names)
    assert counters(dataset)["bytes"] < 65_536
    assert drain(dataset.pk) == 1000
    assert names_in_table(dataset) == names
    assert balance(dataset).adds_up
    assert counters(dataset)["bytes"] == counters(dataset)["total"] == 0


@pytest.mark.parametrize("size", [1, 350, 700, 10_000])
def test_commit_is_converted_in_pieces_of_any_size(
    size: int, api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "_PIECE_BYTES", size)
    names = [f"{number}" for number in range(7)]
    for name in names[:4]:
        send(api, name)
    poison = enqueue(dataset, b"{}")
    for name in names[4:]:
        send(api, name)
    assert drain(dataset.pk) == 7
    assert names_in_table(dataset) == names
    kept = QuarantinedEntry.objects.get(dataset=dataset)
    assert kept.position == stream.position_of(poison)
    assert table_of(dataset).version() == 1  # version 0 created the table, version 1 has the rows
    assert balance(dataset).adds_up


def test_drain_stops_after_its_turn_and_the_dataset_stays_due(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_RECORDS", 1)
    monkeypatch.setattr(drains, "_TURN_SECONDS", 0.0)
    send(api, "a")
    send(api, "b")
    turns.next_due()
    assert turns.next_due() == []
    assert drain(dataset.pk) == 1
    assert turns.next_due() == [dataset.pk]
    assert drain(dataset.pk) == 1
    assert turns.next_due() == []


# -- schemas that change ------------------------------------------------------------------------------


def test_added_field_is_null_in_older_rows(api: Api, dataset: Dataset) -> None:
    send(api, "old")
    drain(dataset.pk)
    services.save_dataset(dataset, fields=[*FIELDS, Field("seats", "number")])
    assert api.one(record(country="new", seats=3)).status_code == 202
    assert [(row["country"], row["seats"]) for row in stored(dataset)] == [("old", None), ("new", 3.0)]


def test_column_of_a_removed_field_stays(api: Api, dataset: Dataset) -> None:
    send(api, "old")
    drain(dataset.pk)
    services.save_dataset(dataset, fields=[field for field in FIELDS if field.name != "plan"])
    assert api.one(record(country="new", plan=...)).status_code == 202
    assert [(row["country"], row["plan"]) for row in stored(dataset)] == [("old", "pro"), ("new", None)]


def test_entries_of_several_versions_are_stored_in_one_commit(api: Api, dataset: Dataset) -> None:
    send(api, "first")
    services.save_dataset(dataset, fields=[*FIELDS, Field("Seats", "number")])
    assert api.one(record(country="second", Seats=3)).status_code == 202
    services.save_dataset(dataset, fields=[FIELDS[0], Field("since", "timestamp")])
    third = {name: record()[name] for name in ("timestamp", "context")} | {
        "country": "third",
        "since": "2026-06-01T08:00:00+02:00",
    }
    assert api.one(third).status_code == 202
    rows = stored(dataset)
    assert [(row["country"], row["plan"], row["Seats"]) for row in rows] == [
        ("first", "pro", None),
        ("second", "pro", 3.0),
        ("third", None, None),
    ]
    assert [row["since"] and row["since"].isoformat() for row in rows] == [None, None, "2026-06-01T06:00:00+00:00"]
    assert [entry["operation"] for entry in table_of(dataset).history()] == ["WRITE", "CREATE TABLE"]


def test_entry_of_an_older_version_fits_a_newer_table(api: Api, dataset: Dataset) -> None:
    old = dataset.versions.get().pk
    services.save_dataset(dataset, fields=[*FIELDS, Field("seats", "number")])
    api.one(record(country="new", seats=1))
    drain(dataset.pk)
    enqueue(dataset, json.dumps(record(country="late")).encode(), version=old)
    assert [(row["country"], row["seats"]) for row in stored(dataset)] == [("new", 1.0), ("late", None)]


# -- missing servers ----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["states", "append", "trim", "settle"])
def test_next_drain_completes_a_drain_that_lost_redis(
    api: Api, dataset: Dataset, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a", "b")
    owner: Any = DatasetTable if moment == "append" else turns if moment == "settle" else stream
    original = getattr(owner, moment)

    def cut_off(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        with redis_away():
            return original(*args, **kwargs)

    monkeypatch.setattr(owner, moment, cut_off)
    if moment == "append":
        drain(dataset.pk)  # Redis is back before the drain needs it
    else:
        with pytest.raises(RedisError):
            drain(dataset.pk)
    let_the_lock_expire(dataset)
    drain(dataset.pk)
    assert names_in_table(dataset) == ["a", "b"]
    assert counters(dataset) == {"accepted": 2, "queued": 0, "bytes": 0, "total": 0}
    assert turns.next_due() == []


def test_drain_without_a_database_leaves_the_queue_unchanged(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    before = counters(dataset)
    with database_away(), pytest.raises(DatabaseError):
        drain(dataset.pk)
    assert counters(dataset) == before
    assert not redis.client().exists(redis_keys.lock(dataset.pk))
    assert drain(dataset.pk) == 1
