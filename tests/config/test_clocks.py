"""Workers and beat work even if their clocks are wrong. /readyz names a process that does not run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from redis import Redis

from config.celery import DRAIN_QUEUE, UPKEEP_QUEUE, BoundedScheduler, app
from datasets.models import Dataset
from ingest.monitoring import health
from ingest.queue import stream
from tests.conftest import Api
from tests.support.entries import send, table_of
from tests.support.processes.celery_processes import beat, worker
from tests.support.processes.stack import wait_for
from tests.test_commands import environment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def broker() -> Iterator[Any]:
    """Empty the broker's Redis."""
    with Redis(unix_socket_path=urlsplit(settings.CELERY_BROKER_URL).path, db=1) as client:
        client.flushdb()
        yield client


@pytest.fixture
def move_clock(tmp_path: Path) -> Callable[[float], dict[str, str]]:
    """Return a function that sets the clocks of processes ahead, also while they run.

    It returns the environment that such a process needs.
    """
    ahead = tmp_path / "ahead"

    def move(seconds: float) -> dict[str, str]:
        ahead.write_text(f"{seconds}")
        return environment(SECONDS_AHEAD=str(ahead))

    return move


Move = Callable[[float], dict[str, str]]


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_a_worker_with_a_wrong_clock_stores_records(
    api: Api, dataset: Dataset, tmp_path: Path, move_clock: Move, seconds: float
) -> None:
    send(api, "a")
    scheduler: Any = BoundedScheduler(app=app)
    with worker("tests.support.processes.wrong_clock", tmp_path / "log", environment=move_clock(seconds)):
        scheduler.apply_entry(scheduler.schedule["dispatch"])
        wait_for(lambda: not stream.state(dataset.pk).length, "the record to leave the queue", seconds=60)
    assert table_of(dataset).count() == 1


def test_beat_keeps_sending_when_its_clock_is_set_back(broker: Any, tmp_path: Path, move_clock: Move) -> None:
    waiting = f"{app.conf.broker_transport_options['global_keyprefix']}{DRAIN_QUEUE}"
    with beat(tmp_path / "log", move_clock(0), application="tests.support.processes.wrong_clock"):
        wait_for(lambda: broker.llen(waiting), "triggers", seconds=60)
        move_clock(-3600)
        for _ in range(2):  # the first trigger may have been sent before the change
            broker.delete(waiting)
            wait_for(lambda: broker.llen(waiting), "triggers after the clock was set back", seconds=20)


@pytest.mark.parametrize("gone", ["worker", "upkeep", "beat"])
def test_readyz_names_the_process_that_is_gone(tmp_path: Path, gone: str) -> None:
    here = environment()
    start: dict[str, Any] = {
        "worker": lambda: worker("config", tmp_path / "worker", DRAIN_QUEUE, here),
        "upkeep": lambda: worker("config", tmp_path / "upkeep", UPKEEP_QUEUE, here),
        "beat": lambda: beat(tmp_path / "beat", here),
    }
    with ExitStack() as running:
        for process in start.keys() - {gone}:
            running.enter_context(start[process]())
        expected = {process: "ok" for process in start if process != gone}
        found = wait_for(lambda: checks if expected.items() <= (checks := health.checks()).items() else None, "signs")
        assert found[gone] == "no heartbeat for 60 seconds"
        if gone == "upkeep":
            wait_for(lambda: health.checks()["storage"] == "ok", "a check of the storage")
