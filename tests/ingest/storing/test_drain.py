"""The drain: what it commits, and what happens when several drains work on the same dataset."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError
from redis.exceptions import RedisError

from config.common import redis
from datasets import installation, services
from datasets.models import Dataset
from datasets.schemas.schema import Field
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import formats, redis_keys, stream, turns
from ingest.storing import conversion, quarantine
from ingest.storing import drain as drains
from ingest.storing.drain import drain, drain_once
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api, record, stored
from tests.support.crashing import PROCESSES, drain_without_lock, finish, race, running, start
from tests.support.entries import (
    counters,
    enqueue,
    generation,
    in_stream,
    large,
    let_the_lock_expire,
    named,
    names_in_table,
    send,
    status,
    table_of,
)
from tests.support.outages import database_away, redis_away


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
    assert turns.next_due() == dataset.pk
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["a", "b"]
    assert turns.next_due() is None


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
    assert turns.next_due() is None
    assert drain(dataset.pk) == 1
    assert turns.next_due() == dataset.pk
    assert drain(dataset.pk) == 1
    assert turns.next_due() is None


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


# -- several drains of one dataset -----------------------------------------------------------------------


def test_drain_leaves_a_claimed_dataset_alone(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    with turns.claim(dataset.pk) as lock:
        assert lock is not None
        assert drain(dataset.pk) == 0
        assert in_stream(dataset) == 1
    assert drain(dataset.pk) == 1


@pytest.mark.parametrize("step", ["append", "create"])
def test_drain_writes_nothing_after_a_concurrent_commit(
    api: Api, dataset: Dataset, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step == "append":
        send(api, "0")
        drain(dataset.pk)
    send(api, "a", "b")
    original = getattr(DatasetTable, step)

    def after_another_drain(*args: Any, **kwargs: Any) -> Any:
        assert finish(start(drain_without_lock, dataset.pk)) == 0
        return original(*args, **kwargs)

    monkeypatch.setattr(DatasetTable, step, after_another_drain)
    with pytest.raises(ConcurrentCommit):
        drain_once(dataset)
    monkeypatch.undo()
    assert drain(dataset.pk) == 0
    assert names_in_table(dataset) == (["0", "a", "b"] if step == "append" else ["a", "b"])
    assert balance(dataset).adds_up
    assert counters(dataset)["queued"] == 0


def test_two_drains_put_the_same_bad_entry_into_quarantine_once(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(dataset, b"{}")
    send(api, "a")
    original = quarantine.put

    def after_another_drain(*args: Any) -> None:
        assert finish(start(drain_without_lock, dataset.pk)) == 0
        original(*args)

    monkeypatch.setattr(quarantine, "put", after_another_drain)
    with pytest.raises(ConcurrentCommit):
        drain_once(dataset)
    monkeypatch.undo()
    drain(dataset.pk)
    _all_is_stored(dataset, ["a"], quarantined=1)


def test_drain_writes_nothing_after_a_concurrent_new_column(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "0")
    drain(dataset.pk)
    services.save_dataset(dataset, fields=[*FIELDS, Field("seats", "number")])
    api.one(record(country="a", seats=1))
    original = DatasetTable.append

    def after_another_drain(*args: Any, **kwargs: Any) -> None:
        assert finish(start(drain_without_lock, dataset.pk)) == 0
        original(*args, **kwargs)

    monkeypatch.setattr(DatasetTable, "append", after_another_drain)
    assert drain(dataset.pk) == 0  # no error: the next drain continues
    monkeypatch.undo()
    assert names_in_table(dataset) == ["0", "a"]
    assert balance(dataset).adds_up


@pytest.mark.parametrize("processes", [2, 4])
def test_racing_drains_without_a_lock_store_each_record_once(
    api: Api, dataset: Dataset, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_RECORDS", 30)
    names = [f"{n}" for n in range(1200)]
    for at in range(0, 1200, 10):
        send(api, *names[at : at + 10])
    everything_sent = PROCESSES.Event()
    everything_sent.set()

    written, refused = _race(dataset, processes, everything_sent)

    assert written == 1200
    assert refused > 0, "the drains did not race"
    _all_is_stored(dataset, names)


def test_racing_drains_of_a_growing_stream_store_each_record_once(api: Api, dataset: Dataset) -> None:
    names: list[str] = []
    everything_sent = PROCESSES.Event()

    def fill() -> None:
        notes: dict[str, str] = {}
        for n in range(400):
            batch = [{**each, **notes} for each in named(f"{n}a", f"{n}b")]
            assert api.batch(batch).status_code == 202
            names.extend((f"{n}a", f"{n}b"))
            if n % 100 == 50:
                enqueue(dataset, b"{}")
            if n % 100 == 70:
                notes[f"note{n}"] = "x"
                services.save_dataset(dataset, fields=[*FIELDS, *(Field(note, "string") for note in notes)])

    written, refused = _race(dataset, 2, everything_sent, fill)

    assert written == 800
    assert refused > 0, "the drains did not race"
    _all_is_stored(dataset, names, quarantined=4)


def _race(dataset: Dataset, count: int, everything_sent: Any, fill: Any = None) -> tuple[int, int]:
    """Let `count` processes drain at once. Return the rows they wrote, and how many of their commits were refused."""
    barrier, results = PROCESSES.Barrier(count + 1), PROCESSES.Queue()
    processes = [start(race, dataset.pk, barrier, results, everything_sent) for _ in range(count)]
    with running(*processes):
        barrier.wait(60)
        if fill is not None:
            fill()
            everything_sent.set()
        told = [results.get(timeout=60) for _ in processes]
        assert [finish(process) for process in processes] == [0] * count
    return sum(written for written, _ in told), sum(refused for _, refused in told)


def _all_is_stored(dataset: Dataset, names: list[str], quarantined: int = 0) -> None:
    assert names_in_table(dataset) == names
    after = balance(dataset)
    assert (after.stored, after.queued, after.quarantined, after.adds_up) == (len(names), 0, quarantined, True)
    assert QuarantinedEntry.objects.count() == quarantined
    assert counters(dataset) == {"accepted": len(names) + quarantined, "queued": 0, "bytes": 0, "total": 0}


# -- a Redis that is wiped ----------------------------------------------------------------------------


def test_after_a_wipe_new_records_are_stored_and_old_rows_stay(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    before = generation()
    redis.client().flushall()
    accepted = send(api, "b")
    assert generation() != before
    assert status(api, accepted)["status"] == "queued"
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["a", "b"]
    after = balance(dataset)
    assert (after.accepted, after.stored, after.queued) == (1, 1, 0)


def test_after_a_wipe_lower_stream_ids_are_not_taken_for_old_ones(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    redis.client().flushall()
    installation.check()
    # The clock of this Redis is behind: its stream begins with an ID from the past.
    redis.client().set(redis_keys.GENERATION, "0ddba110")
    body = json.dumps(record(country="b")).encode()
    fields = {"b": body, "f": "o", "n": 1, "v": dataset.versions.get().pk, "t": "t"}
    redis.client().xadd(redis_keys.stream(dataset.pk), fields, id="1700000000000-0")
    assert drain(dataset.pk) == 1
    assert sorted(names_in_table(dataset)) == ["a", "b"]


@pytest.mark.parametrize("moment", ["read", "append", "trim"])
def test_wipe_during_a_drain_harms_neither_generation(
    api: Api, dataset: Dataset, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "0")
    drain(dataset.pk)
    send(api, "a")
    owner: Any = DatasetTable if moment == "append" else stream
    original = getattr(owner, moment)

    def wiped(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        redis.client().flushall()
        send(api, "b")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, moment, wiped)
    drain(dataset.pk)
    drain(dataset.pk)
    # Entries read before the wipe are stored. Other old entries are lost with Redis. New entries are stored once.
    assert names_in_table(dataset) == (["0", "b"] if moment == "read" else ["0", "a", "b"])
    after = balance(dataset)
    assert (after.accepted, after.stored, after.queued, after.adds_up) == (1, 1, 0, True)
    assert counters(dataset) == {"accepted": 1, "queued": 0, "bytes": 0, "total": 0}


def test_racing_drains_store_each_generation_once_despite_wipes(api: Api, dataset: Dataset) -> None:
    everything_sent = PROCESSES.Event()
    names: list[str] = []

    def fill() -> None:
        for n in range(5):
            for m in range(30):
                send(api, f"{n}-{m}")
                names.append(f"{n}-{m}")
            if n < 4:
                redis.client().flushall()

    _race(dataset, 2, everything_sent, fill)

    found = names_in_table(dataset)
    assert set(found) <= set(names)
    assert [name for name in found if name.startswith("4-")] == names[-30:]
    after = balance(dataset)
    assert (after.accepted, after.stored, after.queued, after.adds_up) == (30, 30, 0, True)


# -- missing servers ----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["read", "append", "trim", "settle"])
def test_next_drain_completes_one_that_lost_redis(
    api: Api, dataset: Dataset, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a", "b")
    owner: Any = DatasetTable if moment == "append" else turns if moment == "settle" else stream
    original = getattr(owner, moment)

    def cut_off(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        with redis_away():
            return list(original(*args, **kwargs)) if moment == "read" else original(*args, **kwargs)

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
    assert turns.next_due() is None


def test_drain_without_a_database_leaves_the_queue_unchanged(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    before = counters(dataset)
    with database_away(), pytest.raises(DatabaseError):
        drain(dataset.pk)
    assert counters(dataset) == before
    assert not redis.client().exists(redis_keys.lock(dataset.pk))
    assert drain(dataset.pk) == 1
