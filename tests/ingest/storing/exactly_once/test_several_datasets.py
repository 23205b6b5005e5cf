"""Many small datasets: one drain stores several of them, and a dataset that fails does not stop the others."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from config.common import redis
from datasets import services
from datasets.models import Dataset, Project
from datasets.tables import log
from datasets.tables.storage import TableGone
from datasets.tables.table import DatasetTable
from ingest import tasks
from ingest.models import QuarantinedEntry
from ingest.queue import turns
from ingest.storing import drain as drains
from ingest.storing import quarantine
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api
from tests.support.entries import enqueue, in_stream, let_the_lock_expire, names_in_table, send, table_of
from tests.support.processes.crashing import drain_dying, finish, start, wait_until


@pytest.fixture
def several(project: Project) -> list[Dataset]:
    return [services.create_dataset(project=project, name=f"{n}", fields=FIELDS) for n in range(6)]


@pytest.fixture(autouse=True)
def long_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give passes more time: on a busy machine, a pass would leave some of the datasets to the next drain."""
    monkeypatch.setattr(drains, "_PASS_SECONDS", 60.0)


def send_to_each(api: Api, several: list[Dataset], name: str) -> None:
    for dataset in several:
        send(Api(api.token, dataset), name)


def all_have(several: list[Dataset], *names: str) -> None:
    for dataset in several:
        assert names_in_table(dataset) == list(names)
        assert in_stream(dataset) == 0
        assert balance(Dataset.objects.get(pk=dataset.pk)).adds_up


# -- one pass -----------------------------------------------------------------------------------------


def test_one_trigger_stores_the_records_of_several_datasets(api: Api, several: list[Dataset]) -> None:
    for name in ("a", "b"):
        send_to_each(api, several, name)
        tasks.drain()
    all_have(several, "a", "b")
    assert turns.pending() == {}


def test_one_trigger_commits_once_to_a_table_though_records_arrive(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = DatasetTable.append

    def slow(*args: Any, **kwargs: Any) -> None:
        append(*args, **kwargs)
        send(api, "later")

    monkeypatch.setattr(DatasetTable, "append", slow)
    send(api, "first")
    for number in (1, 2):
        tasks.drain()
        assert table_of(dataset).version() == number  # version 0 created the table
        assert turns.count_due(1) == 1


def test_datasets_share_queries_and_round_trips(
    api: Api, several: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cost(datasets: list[Dataset]) -> tuple[int, int]:
        send_to_each(api, datasets, "a")
        trips: list[object] = []
        for name in ("execute_command", "pipeline"):
            original = getattr(type(redis.client()), name)

            def counted(*args: Any, original: Callable[..., Any] = original, **kwargs: Any) -> Any:
                trips.append(args)
                return original(*args, **kwargs)

            monkeypatch.setattr(type(redis.client()), name, counted)
        with CaptureQueriesContext(connection) as queries:
            drain(*(dataset.pk for dataset in datasets))
        monkeypatch.undo()
        return len(queries), len(trips)

    cost(several)  # creates the table of each dataset
    assert cost(several[:1]) == cost(several) == (3, 8)


def test_a_backlog_beside_small_queues_is_stored(
    api: Api, several: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_RECORDS", 2)
    send_to_each(api, several, "a")
    for name in ("b", "c", "d", "e"):
        send(Api(api.token, several[2]), name)
    drain(*(dataset.pk for dataset in several))
    all_have([several[2]], "a", "b", "c", "d", "e")
    all_have([*several[:2], *several[3:]], "a")


def test_each_dataset_has_its_own_quarantine(api: Api, several: list[Dataset]) -> None:
    send_to_each(api, several, "a")
    for dataset in several[:2]:
        enqueue(dataset, b"{}")
    drain(*(dataset.pk for dataset in several))
    all_have(several, "a")
    assert sorted(QuarantinedEntry.objects.values_list("dataset", flat=True)) == [each.pk for each in several[:2]]
    for entry in QuarantinedEntry.objects.all():
        quarantine.replay(entry)
    drain(*(dataset.pk for dataset in several))
    all_have(several, "a")
    assert QuarantinedEntry.objects.count() == 4


# -- failures -----------------------------------------------------------------------------------------


def lose_the_table(dataset: Dataset) -> None:
    shutil.rmtree(DatasetTable.of(dataset).uri)


def test_a_dataset_that_fails_does_not_stop_the_others(api: Api, several: list[Dataset]) -> None:
    for name in ("a", "b"):
        send_to_each(api, several, name)
        if name == "a":
            tasks.drain()
    lose_the_table(several[3])
    with pytest.raises(TableGone):
        tasks.drain()
    all_have([*several[:3], *several[4:]], "a", "b")
    assert in_stream(several[3]) == 1
    assert turns.pending().keys() == {several[3].pk}
    assert turns.next_due() == []  # the dataset is not due until its lease ends


def test_an_unexpected_error_leaves_the_others_due_now(
    api: Api, several: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    send_to_each(api, several, "a")
    store = drains._store

    def fail(part: Any, *args: Any) -> int:
        if part.dataset == several[3]:
            raise ZeroDivisionError
        return store(part, *args)

    monkeypatch.setattr(drains, "_store", fail)
    with pytest.raises(ZeroDivisionError):
        tasks.drain()
    others = [dataset.pk for dataset in several if dataset != several[3]]
    due = turns.next_due()
    assert due == others
    drain(*due)
    all_have([*several[:3], *several[4:]], "a")


def test_a_slow_pass_leaves_the_rest_to_the_next_drain(
    api: Api, several: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "_PASS_SECONDS", 0.0)
    send_to_each(api, several, "a")
    assert drain(*turns.next_due()) == 1
    assert len(turns.next_due()) == len(several) - 1


@pytest.mark.parametrize(
    "step", ["between write and commit", "after the draft was committed", "after the third commit", "after the trim"]
)
def test_drain_of_several_datasets_killed_at_any_step_stores_each_record_once(
    api: Api, several: list[Dataset], step: str
) -> None:
    for name in ("a", "b"):
        send_to_each(api, several, name)
        if name == "a":
            drain(*(dataset.pk for dataset in several))
    assert finish(start(drain_dying, step, *(dataset.pk for dataset in several))) == -signal.SIGKILL
    for dataset in several:
        assert balance(Dataset.objects.get(pk=dataset.pk)).adds_up
        let_the_lock_expire(dataset)
    drain(*(dataset.pk for dataset in several))
    all_have(several, "a", "b")


# -- freshness ----------------------------------------------------------------------------------------


def test_records_wait_for_others_only_while_many_datasets_are_due(
    api: Api, several: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "FRESHNESS_SECONDS", 2 * settings.DISPATCH_SECONDS + 60)
    send_to_each(api, several, "a")
    assert len(turns.next_due()) == len(several)
    turns.settle(several)
    monkeypatch.setattr(turns, "MAX_DATASETS", 2)
    assert (turns.next_due(), turns.count_due(100)) == ([], 0)


def test_every_record_is_stored_within_the_freshness_bound(
    api: Api, several: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records come all the time, to more datasets than one drain takes."""
    monkeypatch.setattr(turns, "MAX_DATASETS", 2)
    send_to_each(api, several, "0")
    wait_until(lambda: tasks.drain() or not turns.pending())
    versions = {dataset.pk: table_of(dataset).version() for dataset in several}
    rounds, began = 0, time.monotonic()
    while time.monotonic() - began < settings.FRESHNESS_SECONDS + 1:
        rounds += 1
        send_to_each(api, several, f"{rounds}")
        tasks.drain()
        time.sleep(0.01)
    wait_until(lambda: tasks.drain() or not turns.pending())
    for dataset in several:
        commits = range(versions[dataset.pk] + 1, table_of(dataset).version() + 1)
        assert 2 <= len(commits) < rounds  # several records share a commit
        for version in commits:
            assert seconds_waited(dataset, version) < settings.FRESHNESS_SECONDS


def seconds_waited(dataset: Dataset, version: int) -> float:
    """Return the seconds for which the oldest record of a commit waited for the commit."""
    uri = DatasetTable.of(dataset).uri
    actions = log.read_commit(uri, version)
    assert actions is not None
    [path] = [each["add"]["path"] for each in actions if "add" in each]
    [committed_ms] = [each["commitInfo"]["timestamp"] for each in actions if "commitInfo" in each]
    ids: list[str] = pq.read_table(Path(uri) / path)["id"].to_pylist()
    waited_ms: int = committed_ms - min(int(each.partition("-")[0]) for each in ids)
    return waited_ms / 1000
