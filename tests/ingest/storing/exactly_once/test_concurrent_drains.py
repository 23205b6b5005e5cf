"""Several drains of one dataset at the same time, also while Redis is wiped: each record is stored once."""

import json
from typing import Any

import pytest
from django.conf import settings

from config.common import redis
from datasets import installation, services
from datasets.models import Dataset
from datasets.schemas.fields import Field
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream, turns
from ingest.storing import quarantine
from ingest.storing.drain import drain, drain_once
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api, record
from tests.support.entries import (
    counters,
    enqueue,
    generation,
    in_stream,
    named,
    names_in_table,
    send,
    status,
)
from tests.support.processes.crashing import PROCESSES, drain_without_lock, finish, race, running, start

# -- several drains of one dataset -----------------------------------------------------------------------


def test_drain_leaves_a_locked_dataset_alone(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    with turns.locked([dataset.pk]) as locks:
        assert locks
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
    """Let `count` processes drain at the same time. Return how many rows they wrote, and how many commits failed."""
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


def test_lower_stream_ids_after_a_wipe_count_as_new(api: Api, dataset: Dataset) -> None:
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


@pytest.mark.parametrize("moment", ["states", "append", "trim"])
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
    assert names_in_table(dataset) == (["0", "b"] if moment == "states" else ["0", "a", "b"])
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
