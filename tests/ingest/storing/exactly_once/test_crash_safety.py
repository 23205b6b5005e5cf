"""A drain is killed at any step. The next drain stores each record exactly once."""

import random
import signal
from functools import partial
from pathlib import Path

import pytest
from django.conf import settings

from datasets.models import Dataset
from ingest.models import QuarantinedEntry
from ingest.queue import turns
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from tests.conftest import Api
from tests.support.entries import (
    counters,
    enqueue,
    in_stream,
    let_the_lock_expire,
    names_in_table,
    send,
    status,
    table_of,
)
from tests.support.processes.crashing import (
    data_files,
    drain_dying,
    drain_until_empty,
    finish,
    running,
    start,
    wait_until,
)

KILLED = -signal.SIGKILL
POISON = b'{"timestamp":"2026-06-10T10:58:00Z","context":{},"country":7}'


def all_is_stored(dataset: Dataset, names: list[str]) -> None:
    """Drain, and check that each name is in the table once and that all counts agree."""
    let_the_lock_expire(dataset)
    drain(dataset.pk)
    assert names_in_table(dataset) == names
    after = balance(dataset)
    assert (after.accepted, after.stored, after.queued, after.adds_up) == (len(names), len(names), 0, True)
    assert in_stream(dataset) == 0
    assert counters(dataset) == {"accepted": len(names), "queued": 0, "bytes": 0, "total": 0}


@pytest.mark.parametrize(
    ("step", "committed"),
    [
        ("before the write", False),
        ("between write and commit", False),
        ("before the draft is committed", False),
        ("after the draft was committed", True),
        ("after the commit", True),
        ("after the trim", True),
        ("before the turn is settled", True),
        ("after the turn was settled", True),
    ],
)
@pytest.mark.parametrize("table", ["a table", "no table yet"])
def test_drain_killed_at_any_step_stores_each_record_once(
    api: Api, dataset: Dataset, step: str, committed: bool, table: str
) -> None:
    names = [f"old{n}" for n in range(3)] if table == "a table" else []
    if names:
        send(api, *names)
        drain(dataset.pk)
    accepted = [send(api, f"{n}a", f"{n}b") for n in range(4)]
    names += [name for n in range(4) for name in (f"{n}a", f"{n}b")]

    assert finish(start(drain_dying, step, dataset.pk)) == KILLED

    between = balance(dataset)
    old = len(names) - 8
    assert (between.stored, between.queued) == ((old + 8, 0) if committed else (old, 8))
    assert between.adds_up
    # Until the queue is trimmed, a receipt may say "queued" for a stored record, but never the reverse.
    assert {status(api, each)["status"] for each in accepted} <= ({"stored", "queued"} if committed else {"queued"})
    all_is_stored(dataset, names)
    assert {status(api, each)["status"] for each in accepted} == {"stored"}


@pytest.mark.parametrize("step", ["before the table is created", "after the table was created"])
def test_drain_killed_while_creating_the_table_loses_nothing(api: Api, dataset: Dataset, step: str) -> None:
    accepted = send(api, "a", "b")
    assert finish(start(drain_dying, step, dataset.pk)) == KILLED
    assert balance(dataset).queued == 2
    assert status(api, accepted)["status"] == "queued"
    all_is_stored(dataset, ["a", "b"])


def test_files_of_killed_drains_are_in_no_commit(api: Api, dataset: Dataset) -> None:
    send(api, "0")
    drain(dataset.pk)
    names, root = ["0"], Path(settings.STORAGE_URL)
    for step in ("between write and commit", "before the draft is committed") * 2:
        accepted = send(api, f"{len(names)}")
        names.append(f"{len(names)}")
        version, files = table_of(dataset).version(), len(data_files(root))

        assert finish(start(drain_dying, step, dataset.pk)) == KILLED

        assert (table_of(dataset).version(), len(data_files(root))) == (version, files + 1)
        assert balance(dataset).adds_up
        assert status(api, accepted)["status"] == "queued"
        let_the_lock_expire(dataset)
    all_is_stored(dataset, names)


@pytest.mark.parametrize(
    "step", ["before the write to quarantine", "after the write to quarantine", "before the write"]
)
def test_drain_killed_around_quarantine_puts_an_entry_there_once(api: Api, dataset: Dataset, step: str) -> None:
    send(api, "a")
    enqueue(dataset, POISON)
    send(api, "b")

    assert finish(start(drain_dying, step, dataset.pk)) == KILLED

    # The entry is counted once, as queued, until the watermark passes it.
    between = balance(dataset)
    assert (between.accepted, between.stored, between.queued, between.quarantined) == (3, 0, 3, 0)
    let_the_lock_expire(dataset)
    drain(dataset.pk)
    assert names_in_table(dataset) == ["a", "b"]
    assert QuarantinedEntry.objects.count() == 1
    after = balance(dataset)
    assert (after.stored, after.queued, after.quarantined, after.adds_up) == (2, 0, 1, True)


def test_dataset_is_due_again_a_lease_after_its_drain_was_killed(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_LEASE_SECONDS", 1.0)
    send(api, "a")
    assert turns.next_due() == [dataset.pk]
    assert finish(start(drain_dying, "before the write", dataset.pk)) == KILLED
    wait_until(lambda: turns.next_due() == [dataset.pk])
    wait_until(lambda: drain(dataset.pk))  # the lock's lease began a little later than the dataset's
    assert names_in_table(dataset) == ["a"]
    assert turns.next_due() == []


def _has_begun(dataset: Dataset, left: int) -> bool:
    return in_stream(dataset) < left


@pytest.mark.parametrize("seed", [1, 2])
def test_drains_killed_at_random_store_each_record_once(
    api: Api, dataset: Dataset, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_RECORDS", 50)
    chance = random.Random(seed)
    names: list[str] = []
    poison = kills = 0
    while kills < 6:
        while in_stream(dataset) < 150:
            batch = [f"{len(names) + n}" for n in range(chance.randint(1, 30))]
            send(api, *batch)
            names += batch
            if chance.random() < 0.02:
                enqueue(dataset, POISON)
                poison += 1
        process = start(drain_until_empty, dataset.pk)
        with running(process):
            wait_until(partial(_has_begun, dataset, in_stream(dataset)))
            process.join(chance.uniform(0, 0.05))
        kills += process.exitcode == KILLED
        assert balance(dataset).adds_up
        let_the_lock_expire(dataset)

    drain_until_empty(dataset.pk)  # on a busy machine this takes more than one turn
    assert names_in_table(dataset) == names
    after = balance(dataset)
    assert (after.stored, after.queued, after.quarantined, after.adds_up) == (len(names), 0, poison, True)
    assert counters(dataset) == {"accepted": len(names) + poison, "queued": 0, "bytes": 0, "total": 0}
