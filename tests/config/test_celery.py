"""Beat sends its triggers to the right queues, and only a limited number. A process that stops working ends itself."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery
from django.conf import settings
from redis import Redis

from config.celery import DRAIN_QUEUE, UPKEEP_QUEUE, BoundedScheduler, app
from config.common import redis
from datasets import services
from datasets.models import Project
from ingest import tasks
from ingest.queue import redis_keys, turns
from tests.conftest import FIELDS
from tests.support.entries import enqueue
from tests.support.processes.celery_processes import worker
from tests.support.processes.stack import wait_for


@pytest.fixture
def broker() -> Iterator[Any]:
    """Return a client of the broker's Redis."""
    with Redis(unix_socket_path=urlsplit(settings.CELERY_BROKER_URL).path, db=1) as client:
        yield client


PREFIX = app.conf.broker_transport_options["global_keyprefix"]


def waiting(broker: Any, queue: str) -> int:
    """Return how many messages are in one of our queues."""
    count: int = broker.llen(f"{PREFIX}{queue}")
    return count


@pytest.fixture
def scheduler() -> Any:
    return BoundedScheduler(app=app)


def test_another_celery_application_keeps_its_tasks(broker: Any, tmp_path: Path) -> None:
    """The other application may use Celery's default queues, or even ours. Its control messages do not reach us."""
    broker.flushdb()
    with Celery("foreign", broker=settings.CELERY_BROKER_URL) as foreign:
        for queue in ("celery", "upkeep", DRAIN_QUEUE):
            foreign.send_task("foreign.task", queue=queue)
        with worker("config", tmp_path / "log"):
            app.send_task("ingest.look_at_storage")
            wait_for(lambda: redis.client().exists(redis_keys.heartbeat("storage")), "our worker to do our task")
            assert foreign.control.ping(timeout=2) == []
    assert [broker.llen(queue) for queue in ("celery", "upkeep", DRAIN_QUEUE)] == [1, 1, 1]


def test_the_number_of_triggers_is_limited_while_no_worker_runs(scheduler: Any, broker: Any) -> None:
    for _ in range(scheduler.max_waiting + 20):
        scheduler.apply_entry(scheduler.schedule["dispatch"])
    assert waiting(broker, DRAIN_QUEUE) == scheduler.max_waiting

    scheduler.apply_entry(scheduler.schedule["flush usage"])  # the other queue is not full
    assert waiting(broker, UPKEEP_QUEUE) == 1

    broker.ltrim(f"{PREFIX}{DRAIN_QUEUE}", 0, scheduler.max_waiting - 11)  # as if a worker had taken ten
    for _ in range(20):
        scheduler.apply_entry(scheduler.schedule["dispatch"])
    assert waiting(broker, DRAIN_QUEUE) == scheduler.max_waiting


def test_dispatch_sends_the_drains_that_the_due_datasets_need(
    broker: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further dispatches send no more drains until a drain begins. A drain chooses its datasets when it begins."""
    monkeypatch.setattr(turns, "MAX_DATASETS", 2)
    broker.flushdb()
    for name in ("a", "b", "c", "d", "e"):
        enqueue(services.create_dataset(project=project, name=name, fields=FIELDS), b"{}")
    for _ in range(3):
        tasks.dispatch()
        assert waiting(broker, DRAIN_QUEUE) == 3
    monkeypatch.setattr(tasks, "_TASK_SECONDS", 0.01)
    tasks.drain()
    broker.rpop(f"{PREFIX}{DRAIN_QUEUE}")
    tasks.dispatch()
    assert waiting(broker, DRAIN_QUEUE) == 2
    broker.flushdb()


def test_a_trigger_drains_all_that_is_due(project: Project) -> None:
    datasets = [services.create_dataset(project=project, name=f"{n}", fields=FIELDS) for n in range(3)]
    for dataset in datasets:
        enqueue(dataset, b"{}")
    tasks.drain()
    assert turns.pending() == {}


def test_every_trigger_has_a_task_and_a_queue(scheduler: Any) -> None:
    app.loader.import_default_modules()
    for entry in scheduler.schedule.values():
        assert entry.task in app.tasks, entry.task
        queue = app.conf.task_routes.get(entry.task, {}).get("queue", app.conf.task_default_queue)
        assert queue in (DRAIN_QUEUE, UPKEEP_QUEUE)
        assert "expires" not in entry.options  # Celery would compare clocks of two machines


def test_the_settings_decide_how_often_triggers_are_sent(scheduler: Any) -> None:
    seconds = {name: entry.schedule.run_every.total_seconds() for name, entry in scheduler.schedule.items()}
    assert seconds["dispatch"] == settings.DISPATCH_SECONDS
    assert seconds["look at storage"] == settings.HEARTBEAT_SECONDS
    assert seconds["flush usage"] == settings.USAGE_FLUSH_SECONDS
    assert seconds["tidy"] == settings.COMPACT_SECONDS
    assert seconds["sweep"] <= 600  # soon after a start


# -- processes that stop working


def test_a_worker_that_takes_no_messages_ends(broker: Any, tmp_path: Path) -> None:
    broker.flushdb()
    with worker("tests.support.processes.deaf_worker", tmp_path / "log") as process:
        app.send_task("ingest.look_at_storage")
        assert process.wait(60) == -signal.SIGKILL
    assert waiting(broker, DRAIN_QUEUE) == 1
    assert "does not take the messages that wait for it" in (tmp_path / "log").read_text()


def test_a_worker_without_work_keeps_running(broker: Any, tmp_path: Path) -> None:
    broker.flushdb()
    with worker("tests.support.processes.deaf_worker", tmp_path / "log") as process:
        wait_for(lambda: "deaf" in (tmp_path / "log").read_text(), "the worker to be ready")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(8)


@pytest.mark.parametrize(
    ("each_turn", "ended"),
    [("pass", True), ("scheduler.schedule.clear(); scheduler.tick()", True), ("scheduler.tick()", False)],
    ids=["does not tick", "ticks and sends nothing", "sends"],
)
def test_a_beat_that_sends_nothing_ends(each_turn: str, ended: bool) -> None:
    program = (
        "import time; from config import celery\nfrom config.processes import watchdog\n"
        "watchdog.BEAT_PATIENCE_SECONDS = 3\n"
        "celery._watch_beat()\n"
        "scheduler = celery.BoundedScheduler(app=celery.app)\n"
        "for _ in range(24):\n"
        f"    {each_turn}\n"
        "    time.sleep(0.5)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert done.returncode == (-signal.SIGKILL if ended else 0), done.stderr.decode()
