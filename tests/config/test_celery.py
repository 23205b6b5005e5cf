"""Beat's triggers: what sends them, where to, and that they do not pile up."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from redis import Redis

from config.celery import BoundedScheduler, app


@pytest.fixture
def broker() -> Iterator[Any]:
    """The broker's Redis, empty."""
    with Redis(unix_socket_path=urlsplit(settings.CELERY_BROKER_URL).path, db=1) as client:
        yield client


@pytest.fixture
def scheduler() -> Any:
    return BoundedScheduler(app=app)


def test_without_a_worker_triggers_do_not_pile_up(scheduler: Any, broker: Any) -> None:
    for _ in range(scheduler.most_waiting + 20):
        scheduler.apply_entry(scheduler.schedule["dispatch"])
    assert broker.llen("celery") == scheduler.most_waiting

    scheduler.apply_entry(scheduler.schedule["flush usage"])  # another queue, which is not full
    assert broker.llen("upkeep") == 1

    broker.ltrim("celery", 0, scheduler.most_waiting - 11)  # a worker has come, and has taken ten
    for _ in range(20):
        scheduler.apply_entry(scheduler.schedule["dispatch"])
    assert broker.llen("celery") == scheduler.most_waiting


def test_every_trigger_is_of_a_task_that_exists_and_goes_to_a_queue_that_is_read(scheduler: Any) -> None:
    app.loader.import_default_modules()
    for entry in scheduler.schedule.values():
        assert entry.task in app.tasks, entry.task
        queue = app.conf.task_routes.get(entry.task, {}).get("queue", "celery")
        assert queue in ("celery", "upkeep")
        assert entry.options["expires"] > 0


def test_triggers_come_as_often_as_the_settings_say(scheduler: Any) -> None:
    seconds = {name: entry.schedule.run_every.total_seconds() for name, entry in scheduler.schedule.items()}
    assert seconds["dispatch"] == settings.DISPATCH_SECONDS
    assert seconds["heartbeat"] == settings.HEARTBEAT_SECONDS
    assert seconds["flush usage"] == settings.USAGE_FLUSH_SECONDS
    assert seconds["tidy"] == settings.COMPACT_SECONDS
