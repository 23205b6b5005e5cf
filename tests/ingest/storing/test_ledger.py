"""The ledger adds up at every moment: accepted = stored + queued + quarantined."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from config.common import redis
from datasets import services
from datasets.models import Dataset, Project
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream
from ingest.storing.drain import drain
from ingest.storing.ledger import Balance, audit, balance
from ingest.storing.quarantine import discard, replay
from tests.conftest import FIELDS, Api
from tests.support.entries import enqueue, generation, names_in_table, send
from tests.support.processes.crashing import PROCESSES, race, running, start, wait_until


def figures(dataset: Dataset) -> tuple[int, int, int, int]:
    now = balance(dataset)
    return now.accepted, now.stored, now.queued, now.quarantined


def run(*arguments: str) -> tuple[str, int]:
    """Run the command. Return what it prints, and its exit code."""
    out = StringIO()
    code: Any = 0
    try:
        call_command("ledger", *arguments, stdout=out)
    except SystemExit as end:
        code = end.code
    return out.getvalue(), code


# -- at rest ------------------------------------------------------------------------------------------


def test_ledger_of_an_unused_dataset_is_all_zeros(dataset: Dataset) -> None:
    assert balance(dataset) == Balance(dataset.pk, 0, 0, 0, 0)
    assert balance(dataset).adds_up


def test_ledger_follows_records_through_their_states(api: Api, dataset: Dataset) -> None:
    send(api, "a", "b")
    enqueue(dataset, b"{}", count=3)
    assert figures(dataset) == (5, 0, 5, 0)
    drain(dataset.pk)
    assert figures(dataset) == (5, 2, 0, 3)
    send(api, "c")
    entry = QuarantinedEntry.objects.get()
    replay(entry)
    assert figures(dataset) == (6, 2, 4, 0)
    drain(dataset.pk)
    assert figures(dataset) == (6, 3, 0, 3)
    discard(QuarantinedEntry.objects.get(state=QuarantinedEntry.State.HELD))
    assert figures(dataset) == (6, 3, 0, 3)


def test_ledger_keeps_datasets_apart(api: Api, dataset: Dataset, project: Project) -> None:
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    send(api, "a", "b")
    enqueue(other, b"{}")
    drain(other.pk)
    assert figures(dataset) == (2, 0, 2, 0)
    assert figures(other) == (1, 0, 0, 1)


def test_stored_entry_counts_as_stored_before_it_is_trimmed(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        send(api, n)
    monkeypatch.setattr(stream, "trim", lambda *_, **__: 0)
    drain(dataset.pk)
    send(api, "x", "y")
    assert figures(dataset) == (5, 3, 2, 0)


# -- while everything moves ---------------------------------------------------------------------------


def test_ledger_adds_up_at_every_moment(api: Api, dataset: Dataset) -> None:
    send(api, "begin")
    barrier, results, all_sent = PROCESSES.Barrier(3), PROCESSES.Queue(), PROCESSES.Event()
    drains = [start(race, dataset.pk, barrier, results, all_sent) for _ in range(2)]
    names: list[str] = ["begin"]

    def admit() -> None:
        for n in range(300):
            send(api, f"{n}a", f"{n}b")
            names.extend((f"{n}a", f"{n}b"))
            if n % 10 == 0:
                enqueue(dataset, b"{}", count=2)
        connection.close()

    def replay_and_discard() -> None:
        for n in range(60):
            held = wait_until(lambda: QuarantinedEntry.objects.filter(state=QuarantinedEntry.State.HELD).first())
            discard(held) if n % 4 == 3 else replay(held)
        connection.close()

    looks = 0
    with running(*drains), ThreadPoolExecutor(2) as pool:
        barrier.wait(60)
        works = [pool.submit(admit), pool.submit(replay_and_discard)]
        while not all(work.done() for work in works):
            now = balance(dataset)
            assert now.adds_up, now
            looks += 1
        all_sent.set()
        for process in drains:
            process.join(60)
    for work in works:
        work.result()
    assert looks > 5
    drain(dataset.pk)
    last = balance(dataset)
    assert (last.accepted, last.queued, last.adds_up) == (601 + 60, 0, True)
    assert last.stored == len(names)
    assert names_in_table(dataset) == names


# -- the command --------------------------------------------------------------------------------------


def test_command_reports_that_the_ledger_adds_up(api: Api, dataset: Dataset) -> None:
    send(api, "a", "b")
    drain(dataset.pk)
    shown, code = run("--json")
    assert code == 0
    assert json.loads(shown) == [
        {"dataset_id": dataset.pk, "accepted": 2, "stored": 2, "queued": 0, "quarantined": 0, "adds_up": True}
    ]


def _commit(dataset: Dataset, *, stored: int) -> None:
    table = DatasetTable(dataset.project_id, dataset.pk)
    table.refresh()
    table.append(None, generation=generation(), watermark=table.watermark(generation()), stored=stored)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda dataset: redis.client().incr(redis_keys.accepted(dataset.pk)),
        lambda dataset: redis.client().decr(redis_keys.queued(dataset.pk)),
        lambda dataset: QuarantinedEntry.objects.filter(dataset=dataset).delete(),
        lambda dataset: _commit(dataset, stored=7),
    ],
)
def test_command_fails_if_the_ledger_does_not_add_up(
    api: Api, dataset: Dataset, project: Project, tamper: Callable[[Dataset], Any]
) -> None:
    services.create_dataset(project=project, name="Other", fields=FIELDS)
    send(api, "a")
    enqueue(dataset, b"{}")
    drain(dataset.pk)
    send(api, "b")
    assert run("--json")[1] == 0
    tamper(dataset)
    shown, code = run("--json")
    assert code == 1
    assert [each["adds_up"] for each in json.loads(shown)] == [False, True]
    assert run()[1] == 1
    assert run("--dataset", str(dataset.pk))[1] == 1


def test_command_shows_one_dataset(api: Api, dataset: Dataset, project: Project) -> None:
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    shown, _ = run("--json", "--dataset", str(other.pk))
    assert [each["dataset_id"] for each in json.loads(shown)] == [other.pk]
    with pytest.raises(CommandError, match=r"^There is no dataset 999999\.$"):
        run("--dataset", "999999")


def test_command_shows_a_table(api: Api, dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    send(api, "a", "b")
    run()
    shown = capsys.readouterr().out
    assert "Signups" in shown
    assert "yes" in shown


# -- the audit of several datasets -------------------------------------------------------------------------------------


def test_audit_counts_ledgers_that_do_not_add_up(api: Api, dataset: Dataset, project: Project) -> None:
    others = [services.create_dataset(project=project, name=f"Other {n}", fields=FIELDS) for n in range(3)]
    send(api, "a")
    enqueue(others[0], b"{}")
    result = audit([dataset, *others], seconds=60)
    assert (result.checked, result.wrong, result.unchecked) == (2, 0, 0)  # the other two never accepted a record
    redis.client().incr(redis_keys.accepted(dataset.pk))
    result = audit([dataset, *others], seconds=60)
    assert (result.checked, result.wrong, result.unchecked) == (2, 1, 0)


def test_audit_counts_datasets_it_had_no_time_to_check(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    result = audit([dataset], seconds=-1)
    assert (result.checked, result.wrong, result.unchecked) == (0, 0, 1)
