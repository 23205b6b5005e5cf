"""The Celery application: what beat triggers, and on which queue.

Two queues, so that a long compaction never keeps records from being stored: `celery` drains, `upkeep` tidies.
"""

import os
import sys
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from celery.signals import setup_logging, worker_process_init
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("dataset-ingest")


def _every(task: str, seconds: float, **options: Any) -> dict[str, Any]:
    # A trigger that nobody took in time is not worth taking later: the next one is already there.
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds * 4, 5)}, **options}


app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"socket_timeout": 30, "socket_connect_timeout": 5, "health_check_interval": 10},
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    timezone="UTC",
    task_routes={
        "ingest.tidy": {"queue": "upkeep"},
        "ingest.note_key_use": {"queue": "upkeep"},
        "quotas.flush_usage": {"queue": "upkeep"},
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


class BoundedScheduler(Scheduler):
    """Beat's scheduler, which keeps its state in memory and stops sending while nobody takes what it sent.

    With no worker running, triggers would otherwise pile up in the broker for as long as that lasts.
    """

    most_waiting = 100

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        name = self.app.conf.task_routes.get(entry.task, {}).get("queue", "celery")
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            waiting = channel.queue_declare(queue=name).message_count
        if waiting >= self.most_waiting:
            return None
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
