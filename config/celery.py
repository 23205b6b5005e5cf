"""The Celery application: what beat triggers, and on which queue.

Two queues, so that a long compaction never delays the storing of records: DRAIN_QUEUE drains, UPKEEP_QUEUE tidies.
Both have names of our own, and every key in a Redis broker has a prefix of our own: another Celery application on the
same broker keeps its tasks, its control messages and its unacknowledged messages, and we keep ours.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from celery.signals import beat_init, setup_logging, task_received, worker_process_init, worker_ready
from celery.worker import state
from django.conf import settings
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

DRAIN_QUEUE = "ingest.drain"
UPKEEP_QUEUE = "ingest.upkeep"
# Before every key in a Redis broker. Other brokers (RabbitMQ) have virtual hosts for this.
_BROKER_KEY_PREFIX = "dataset-ingest:"

app = Celery("dataset-ingest")
logger = logging.getLogger(__name__)

# For so long a worker that does nothing may leave waiting what is there for it, and beat may send nothing. Far above
# what a healthy one ever needs, a reconnection included.
_WORKER_PATIENCE_SECONDS = 20.0
_BEAT_PATIENCE_SECONDS = 120.0


def _every(task: str, seconds: float, **options: Any) -> dict[str, Any]:
    # A trigger that nobody took in time is not worth taking later: the next one is already there.
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds * 4, 5)}, **options}


app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
        "global_keyprefix": _BROKER_KEY_PREFIX,
    },
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    timezone="UTC",
    task_default_queue=DRAIN_QUEUE,
    task_routes={
        "ingest.tidy": {"queue": UPKEEP_QUEUE},
        "ingest.note_key_use": {"queue": UPKEEP_QUEUE},
        "quotas.flush_usage": {"queue": UPKEEP_QUEUE},
    },
    beat_schedule={
        "dispatch": _every("ingest.dispatch", settings.DISPATCH_SECONDS),
        "heartbeat": _every("ingest.heartbeat", settings.HEARTBEAT_SECONDS),
        "flush usage": _every("quotas.flush_usage", settings.USAGE_FLUSH_SECONDS),
        "note key use": _every("ingest.note_key_use", 30.0),
        "tidy": _every("ingest.tidy", settings.COMPACT_SECONDS),
        "retention": _every("ingest.tidy", 6 * 3600.0, kwargs={"everything": True}),
    },
    beat_max_loop_interval=min(settings.DISPATCH_SECONDS, 1.0),
)
app.autodiscover_tasks(["ingest", "quotas"])


@setup_logging.connect
def _leave_logging_to_django(**_: Any) -> None:
    """Celery's own set-up would replace settings.LOGGING."""


@worker_process_init.connect
def _allow_deep_records(**_: Any) -> None:
    """What a web process could parse, a worker must: it reads from a deeper stack, and the limit counts both."""
    sys.setrecursionlimit(10_000)


class _Life:
    """When this process last did its work, by the monotonic clock."""

    at = time.monotonic()

    @classmethod
    def note(cls, **_: Any) -> None:
        cls.at = time.monotonic()


task_received.connect(_Life.note)


@worker_ready.connect
def _watch_worker(**_: Any) -> None:
    queues = list(app.amqp.queues.consume_from)
    threading.Thread(target=_end_when_nothing_is_taken, args=(queues,), daemon=True).start()


@beat_init.connect
def _watch_beat(**_: Any) -> None:
    threading.Thread(target=_end_when_nothing_is_sent, daemon=True).start()


def _end_when_nothing_is_taken(queues: Sequence[str]) -> None:
    """A worker may come back from an outage of the broker and take nothing, for ever; a new one does."""
    waits_since: float | None = None
    while True:
        time.sleep(2)
        if state.active_requests or not any(map(_something_waits, queues)):
            waits_since = None
            continue
        now = time.monotonic()
        waits_since = waits_since or now
        if now - max(waits_since, _Life.at) > _WORKER_PATIENCE_SECONDS:
            _end("takes nothing of what waits for it")


def _end_when_nothing_is_sent() -> None:
    _Life.note()
    while True:
        time.sleep(5)
        if time.monotonic() - _Life.at > _BEAT_PATIENCE_SECONDS:
            _end("sends nothing")


def _end(why: str) -> None:
    """Whoever keeps this process running (`up`, systemd) starts another."""
    logger.error("this process %s, and ends; another will be started", why)
    os.kill(os.getpid(), signal.SIGKILL)  # nothing in it is waited for: that is what hangs


def _something_waits(queue: str) -> bool:
    """Whether a message waits to be taken; not where the broker does not answer, which is no worker's fault."""
    try:
        return _messages(queue) > 0
    except (KombuError, RedisError, OSError):
        return False


def _messages(queue: str) -> int:
    """How many messages nobody has taken."""
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        count: int = channel.queue_declare(queue=queue).message_count
        return count


class BoundedScheduler(Scheduler):
    """Beat's scheduler, which keeps its state in memory and stops sending while nobody takes what it sent.

    With no worker running, triggers would otherwise pile up in the broker for as long as that lasts.
    """

    most_waiting = 100

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        _Life.note()
        return super().tick(*args, **kwargs)

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        name = self.app.conf.task_routes.get(entry.task, {}).get("queue", DRAIN_QUEUE)
        if _messages(name) >= self.most_waiting:
            return None
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
