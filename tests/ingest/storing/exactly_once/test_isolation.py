"""An entry that kills the worker process goes to quarantine. All other entries of its dataset are stored."""

import signal

import pytest

from config.common import redis
from datasets import services
from datasets.models import Dataset, Project
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream, turns
from ingest.storing import isolation, quarantine
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api
from tests.support.entries import in_stream, let_the_lock_expire, names_in_table, send
from tests.support.processes.crashing import drain_dying, drain_dying_of, finish, start

KILLED = -signal.SIGKILL
ANY_NUMBER = 1_000_000


def deaths_until_empty(dataset: Dataset, *marks: str, most: int = ANY_NUMBER) -> int:
    """Drain until the stream is empty. Each time, a new process drains. Return how many of the processes died."""
    deaths = 0
    while in_stream(dataset):
        assert deaths < 100
        let_the_lock_expire(dataset)
        code = finish(start(drain_dying_of, [mark.encode() for mark in marks], most, dataset.pk))
        assert code in (0, KILLED)
        deaths += code == KILLED
    return deaths


def is_suspect(dataset: Dataset) -> bool:
    return dataset.pk in isolation.suspects([dataset.pk])


def test_deadly_entry_goes_to_quarantine_and_others_to_the_table(api: Api, dataset: Dataset) -> None:
    names = [f"record-{n}" for n in range(60)]
    names[33] = "deadly"
    for name in names:
        send(api, name)

    # Three processes die with all 60 entries, one with 6 of them, and three with the deadly entry alone.
    assert deaths_until_empty(dataset, "deadly") == 7

    (kept,) = QuarantinedEntry.objects.all()
    assert (kept.count, kept.reason) == (1, "the worker process died 3 times while it stored this entry alone")
    assert b"deadly" in bytes(kept.body)
    assert names_in_table(dataset) == [name for name in names if name != "deadly"]
    after = balance(dataset)
    assert (after.accepted, after.stored, after.quarantined, after.queued) == (60, 59, 1, 0)
    assert after.adds_up
    assert not redis.client().exists(redis_keys.deaths(dataset.pk))


def test_replay_stores_the_entry_once_the_defect_is_mended(api: Api, dataset: Dataset) -> None:
    send(api, "deadly")
    assert deaths_until_empty(dataset, "deadly") == 6
    assert quarantine.replay(QuarantinedEntry.objects.get())
    drain(dataset.pk)
    assert names_in_table(dataset) == ["deadly"]
    assert balance(dataset).adds_up


def test_two_deadly_entries_are_both_isolated(api: Api, dataset: Dataset) -> None:
    for name in ("first", "a", "second"):
        send(api, name)
    assert deaths_until_empty(dataset, "first", "second") == 10
    assert names_in_table(dataset) == ["a"]
    assert QuarantinedEntry.objects.count() == 2


def test_commit_that_is_too_large_is_stored_in_parts(api: Api, dataset: Dataset) -> None:
    names = [str(n) for n in range(40)]
    for name in names:
        send(api, name)
    assert deaths_until_empty(dataset, most=5) == isolation.MAX_DEATHS
    assert names_in_table(dataset) == names
    assert not QuarantinedEntry.objects.exists()


def test_deaths_for_another_reason_quarantine_nothing(api: Api, dataset: Dataset) -> None:
    """In the trials, each drain dies after its commit. So the next trial has other entries."""
    names = [str(n) for n in range(4)]
    for name in names:
        send(api, name)
    for _ in range(isolation.MAX_DEATHS):
        let_the_lock_expire(dataset)
        assert finish(start(drain_dying, "before the write", dataset.pk)) == KILLED
    assert is_suspect(dataset)
    while in_stream(dataset):
        let_the_lock_expire(dataset)
        assert finish(start(drain_dying, "after the trim", dataset.pk)) == KILLED
    let_the_lock_expire(dataset)
    drain(dataset.pk)
    assert names_in_table(dataset) == names
    assert not QuarantinedEntry.objects.exists()
    assert not redis.client().exists(redis_keys.deaths(dataset.pk))


def test_drain_that_lost_its_lock_does_not_stop_the_next_trials(api: Api, dataset: Dataset) -> None:
    """A drain was stopped for longer than its lease. Another one ended the suspicion. Then the first one went on."""
    names = [str(n) for n in range(25)]
    for name in names:
        send(api, name)
    redis.client().hset(redis_keys.deaths(dataset.pk), "deaths", isolation.MAX_DEATHS)
    with isolation.trial(dataset.pk, stream.state(dataset.pk)) as stopped:
        isolation.forget(dataset.pk)
        stopped.succeed(1)
    assert is_suspect(dataset)
    drain(dataset.pk)
    assert names_in_table(dataset) == names
    assert not redis.client().exists(redis_keys.deaths(dataset.pk))


def test_drain_that_fails_without_dying_is_not_counted(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a")
    monkeypatch.setattr("ingest.storing.drain.convert", lambda *_: 1 / 0)
    for _ in range(isolation.MAX_DEATHS + 1):
        with pytest.raises(ZeroDivisionError):
            drain(dataset.pk)
    assert not is_suspect(dataset)


def test_another_dataset_is_stored_beside_a_suspect(api: Api, dataset: Dataset, project: Project) -> None:
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    send(api, "deadly")
    for _ in range(isolation.MAX_DEATHS):
        let_the_lock_expire(dataset)
        assert finish(start(drain_dying_of, [b"deadly"], ANY_NUMBER, dataset.pk)) == KILLED
    send(Api(api.token, other), "a")
    let_the_lock_expire(dataset)
    assert finish(start(drain_dying_of, [b"deadly"], ANY_NUMBER, dataset.pk, other.pk)) == KILLED
    assert names_in_table(other) == ["a"]
    with turns.locked([other.pk]) as locks:
        assert locks, "the drain released the lock of the other dataset before the trial"
