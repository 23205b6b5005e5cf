"""Celery tasks. Their messages are triggers and carry no records.

If a trigger is lost, late or sent twice, that costs time, but never data.
"""

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

# A dispatch counts at most this number of due datasets. The others are still due at the next dispatch.
_MAX_COUNTED = 500
# A drain task takes more datasets until this time has passed. This needs only a few triggers, and other tasks wait only
# for a short time.
_TASK_SECONDS = 1.0


@shared_task(name="ingest.dispatch")
def dispatch() -> None:
    """Send the drains that the due datasets need. Subtract the drains that already wait in the broker."""
    due = turns.count_due(_MAX_COUNTED)
    needed = max(math.ceil(due / turns.MAX_DATASETS), min(due, settings.CELERY_WORKERS))
    for _ in range(needed - _waiting()):
        drain.delay()


def _waiting() -> int:
    """Return how many triggers wait in the broker for a worker."""
    return broker.waiting(current_app, current_app.conf.task_default_queue)


@shared_task(name="ingest.drain")
def drain() -> None:
    """Store the queued entries of the datasets that are due now. It does not matter when the trigger was sent.

    Entries that arrive meanwhile wait for the next dispatch. Otherwise a steady stream of single records would be
    written in many small commits.
    """
    began, written = time.monotonic(), 0
    for dataset_ids in turns.due():
        written += drains.drain(*dataset_ids)
        if time.monotonic() - began > _TASK_SECONDS:
            break
    if written:  # this proves that the storage works. The task look_at_storage may wait behind many drains
        heartbeat.write(heartbeat.STORAGE)


@shared_task(name="ingest.tidy")
def tidy() -> None:
    """Compact and vacuum the tables that were written to."""
    upkeep.tidy_tables(everything=False)


@shared_task(name="ingest.sweep")
def sweep() -> None:
    """Tidy all tables and delete old statistics, refusals and slots, unless that was done in the last six hours.

    Beat sends this task more often than every six hours: beat loses its schedule when it stops, and it may never run
    for six hours without a stop.
    """
    if upkeep.sweep_is_due():
        statistics.forget_old()
        refusals.forget_old()
        forget_slots()
        upkeep.tidy_tables(everything=True)
        upkeep.note_sweep()


@shared_task(name="ingest.note_key_use")
def note_key_use() -> None:
    """Save the time of the last use of each API key in the database."""
    upkeep.note_key_use()


@shared_task(name="ingest.look_at_storage")
def look_at_storage() -> None:
    """Check the storage from a worker, and save the result for /readyz."""
    health.look_at_storage()
