"""A worker that is alive and connected, but takes no message, as can happen to Celery workers after a broker outage."""

from typing import Any

from celery.signals import worker_ready

from config import celery
from config.processes import watchdog

app = celery.app
watchdog.WORKER_PATIENCE_SECONDS = 3.0


@worker_ready.connect
def _take_nothing(sender: Any, **_: Any) -> None:
    sender.task_consumer.cancel()
    print("deaf", flush=True)
