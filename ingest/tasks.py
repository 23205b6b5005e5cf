"""Celery tasks. They are triggers and carry no records: one that is lost, doubled or late costs time, never data."""

import math
import time

from celery import current_app, shared_task
from django.conf import settings

from config import broker
from ingest.monitoring import health, heartbeat, refusals, statistics
from ingest.queue import turns
from ingest.queue.slots import forget_slots
from ingest.storing import drain as drains
from ingest.storing import upkeep

# Datasets beyond this number are still due at the next dispatch.
_MAX_COUNTED = 500
# A task goes on with more datasets for this time. So a trigger costs little, and other tasks still have their turn.
_TASK_SECONDS = 1.0


@shared_task(name="ingest.dispatch")
def dispatch() -> None:
    """Send as many drains as the due datasets need, except for those that wait in the broker already."""
    due = turns.count_due(_MAX_COUNTED)
    needed = max(math.ceil(due / turns.MAX_DATASETS), min(due, settings.CELERY_WORKERS))
    for _ in range(needed - _waiting()):
        drain.delay()


def _waiting() -> int:
    """Return how many triggers wait in the broker for a worker."""
    return broker.waiting(current_app, current_app.conf.task_default_queue)


@shared_task(name="ingest.drain")
def drain() -> None:
    """Store what the queues of datasets hold that are due now, whenever the trigger was sent.

    Entries that arrive meanwhile wait for the next dispatch. Otherwise a steady stream of single records would be
    written in many small commits.
    """
    began, written = time.monotonic(), 0
    for dataset_ids in turns.due():
        written += drains.drain(*dataset_ids)
        if time.monotonic() - began > _TASK_SECONDS:
            break
    if written:  # proof that the storage works: look_at_storage may wait behind many drains
        heartbeat.write(heartbeat.STORAGE)


@shared_task(name="ingest.tidy")
def tidy() -> None:
    """Compact and vacuum the tables that were written to."""
    upkeep.tidy_tables(everything=False)


@shared_task(name="ingest.sweep")
def sweep() -> None:
    """Tidy all tables and delete old statistics, refusals and slots, unless that was done in the last six hours.

    Beat sends this more often, because it forgets its schedule when it ends, and may never run for six hours.
    """
    if upkeep.sweep_is_due():
        statistics.forget_old()
        refusals.forget_old()
        forget_slots()
        upkeep.tidy_tables(everything=True)
        upkeep.note_sweep()


@shared_task(name="ingest.note_key_use")
def note_key_use() -> None:
    """Write the times at which API keys were last used to the database."""
    upkeep.note_key_use()


@shared_task(name="ingest.look_at_storage")
def look_at_storage() -> None:
    """Check the storage from a worker, and note the result for /readyz."""
    health.look_at_storage()
