"""The Celery application: the tasks that beat triggers, and their queues.

The tasks that can wait use UPKEEP_QUEUE, and all other tasks use DRAIN_QUEUE. So a long compaction does not delay
drains.

The queues and the keys in a Redis broker have our own names. So another Celery application can use the same broker:
neither application takes tasks, control messages or unacknowledged messages of the other.
"""

import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from celery.schedules import schedule
from celery.signals import beat_init, celeryd_after_setup, setup_logging, worker_init, worker_process_init, worker_ready
from django.conf import settings
from django.db import DatabaseError, connections
from redis.exceptions import RedisError

from config import broker, lazy
from config.common.env import broker_tls
from config.common.sentinel import urls as sentinel
from config.processes import watchdog
from config.processes.watchdog import Progress
from datasets import installation
from datasets.installation import UnusableData

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"  # even if the shell has the settings of another project
# Do not let Celery run Django's checks. It would not report what they find, and they would load all pages of the admin.
os.environ["CELERY_SKIP_CHECKS"] = "true"

DRAIN_QUEUE = "ingest.drain"
UPKEEP_QUEUE = "ingest.upkeep"
# The prefix of our keys in a Redis broker. Other brokers (RabbitMQ) have virtual hosts for this.
_BROKER_KEY_PREFIX = "dataset-ingest:"

_BROKER_TIMEOUTS = {"socket_timeout": 30, "socket_connect_timeout": 5}

app = Celery("dataset-ingest")


def _broker() -> dict[str, Any]:
    """Return Celery's settings of its broker. With Sentinel, Celery asks the sentinels for the primary."""
    url = settings.CELERY_BROKER_URL
    options: dict[str, Any] = {
        **_BROKER_TIMEOUTS,
        "health_check_interval": 10,
        "global_keyprefix": _BROKER_KEY_PREFIX,
    }
    if not sentinel.is_sentinel(url):
        return {"broker_url": url, "broker_use_ssl": broker_tls(url), "broker_transport_options": options}
    parts = sentinel.parse("CELERY_BROKER_URL", url)
    options |= {"master_name": parts.service, "sentinel_kwargs": {**_BROKER_TIMEOUTS, **parts.to_sentinel()}}
    return {
        "broker_url": sentinel.for_celery(parts),
        "broker_use_ssl": parts.tls or None,
        "broker_transport_options": options,
    }


def _steady_now() -> datetime:
    """Return a time that corrections of the clock do not move. Only the difference of two of them has a meaning."""
    return datetime.fromtimestamp(time.monotonic(), UTC)


def _every(task: str, seconds: float) -> dict[str, Any]:
    # Triggers do not expire: to expire them, Celery would compare the clocks of two machines. A late trigger does no
    # harm, and BoundedScheduler limits how many triggers wait.
    return {"task": task, "schedule": schedule(seconds, nowfun=_steady_now)}


app.conf.update(
    **_broker(),
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    timezone="UTC",
    task_default_queue=DRAIN_QUEUE,
    task_routes={
        "ingest.tidy": {"queue": UPKEEP_QUEUE},
        "ingest.sweep": {"queue": UPKEEP_QUEUE},
        "ingest.note_key_use": {"queue": UPKEEP_QUEUE},
        "quotas.flush_usage": {"queue": UPKEEP_QUEUE},
    },
    beat_schedule={
        "dispatch": _every("ingest.dispatch", settings.DISPATCH_SECONDS),
        "look at storage": _every("ingest.look_at_storage", settings.HEARTBEAT_SECONDS),
        "flush usage": _every("quotas.flush_usage", settings.USAGE_FLUSH_SECONDS),
        "note key use": _every("ingest.note_key_use", 30.0),
        "tidy": _every("ingest.tidy", settings.COMPACT_SECONDS),
        # A sweep is due every six hours. Beat forgets its schedule when it ends, and may restart more often than that.
        # So beat triggers the task every five minutes, and the task decides whether a sweep is due.
        "sweep": _every("ingest.sweep", 300.0),
    },
    beat_max_loop_interval=min(settings.DISPATCH_SECONDS, 1.0),
)
app.autodiscover_tasks(["ingest", "quotas"])
_SHORTEST_INTERVAL = min(each["schedule"].seconds for each in app.conf.beat_schedule.values())


@setup_logging.connect
def _leave_logging_to_django(**_: Any) -> None:
    """Keep settings.LOGGING: Celery does not replace it if this signal has a receiver."""


@worker_init.connect
@beat_init.connect
def _refuse_unusable_data(**_: Any) -> None:
    """End this process with a message if the data in Redis is not ours, or has another version.

    If Redis or the database does not answer now, start anyway: each drain checks again.
    """
    try:
        installation.check()
    except UnusableData as refusal:
        raise SystemExit(str(refusal)) from refusal
    except (RedisError, DatabaseError, OSError):
        pass
    finally:
        connections.close_all()  # the processes of the pool must open their own connections


@celeryd_after_setup.connect
def _import_for_drains(**_: Any) -> None:
    """Import what drains use before the pool's processes start, so that they share the memory of these modules."""
    if DRAIN_QUEUE in app.amqp.queues.consume_from:
        lazy.import_for_drains()


@worker_process_init.connect
def _allow_deep_records(**_: Any) -> None:
    """Raise Python's recursion limit, so that a worker can parse each record that a web process could parse.

    The limit counts the whole stack, and a worker's stack is deeper when it parses a record.
    """
    sys.setrecursionlimit(10_000)


@worker_ready.connect
def _watch_worker(**_: Any) -> None:
    names = {DRAIN_QUEUE: "worker", UPKEEP_QUEUE: "upkeep"}
    processes = {queue: names[queue] for queue in app.amqp.queues.consume_from}
    threading.Thread(target=watchdog.watch_worker, args=(processes, _messages), daemon=True).start()


@beat_init.connect
def _watch_beat(**_: Any) -> None:
    threading.Thread(target=watchdog.watch_beat, args=(_SHORTEST_INTERVAL,), daemon=True).start()


def _messages(queue: str) -> int:
    """Return the number of messages in the queue that no worker has taken."""
    return broker.waiting(app, queue)


class BoundedScheduler(Scheduler):
    """Keeps beat's state in memory, and sends nothing to a queue in which 100 or more messages wait.

    Otherwise triggers would fill the broker's memory while no worker runs.
    """

    max_waiting = 100

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        name = self.app.conf.task_routes.get(entry.task, {}).get("queue", DRAIN_QUEUE)
        sent = None
        if _messages(name) < self.max_waiting:
            sent = super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        Progress.note()
        return sent
