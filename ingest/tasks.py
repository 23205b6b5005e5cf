"""Celery tasks. They are triggers and carry no records: one that is lost, doubled or late costs time, never data."""

import logging
from typing import Any

from celery import current_app, shared_task

from ingest.monitoring import health, heartbeat, refusals, statistics
from ingest.queue import turns
from ingest.queue.slots import forget_slots
from ingest.storing import drain as drains
from ingest.storing import upkeep

logger = logging.getLogger(__name__)

# At most this many drains wait in the broker. Datasets beyond that are still due at the next dispatch.
_MAX_WAITING = 500


@shared_task(name="ingest.dispatch")
def dispatch() -> None:
    """Send a drain for each dataset that is due, except for those that wait in the broker already."""
    for _ in range(turns.count_due(_MAX_WAITING) - _waiting()):
        drain.delay()


def _waiting() -> int:
    """Return how many triggers wait in the broker for a worker."""
    with current_app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        count: int = channel.queue_declare(queue=current_app.conf.task_default_queue).message_count
        return count


@shared_task(name="ingest.drain")
def drain() -> None:
    """Store what the queue of one dataset holds. Which one is decided now, not when the trigger was sent."""
    dataset_id = turns.next_due()
    if dataset_id is not None:
        written = drains.drain(dataset_id)
        if written:  # proof that the storage works: look_at_storage may wait behind many drains
            heartbeat.write(heartbeat.STORAGE)
        logger.debug("dataset %s: %s rows stored", dataset_id, written)


@shared_task(name="ingest.tidy")
def tidy() -> None:
    """Compact and vacuum the tables that were written to."""
    upkeep.tidy_tables(everything=False)


@shared_task(name="ingest.sweep")
def sweep() -> None:
    """Tidy all tables and delete old statistics, refusals and slots, unless that was done in the last six hours.

    Beat sends this more often: it forgets its schedule when it ends, and may never run for six hours.
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
