"""What workers do. Tasks are triggers: one that is lost, doubled or late costs time, not data."""

import logging
from typing import Any

from celery import current_app, shared_task

from ingest.monitoring import health, heartbeat, statistics
from ingest.queue import turns
from ingest.queue.slots import forget_slots
from ingest.storing import drain as drains
from ingest.storing import upkeep

logger = logging.getLogger(__name__)

# More at once would fill the broker before the first is done; the rest is due at the next tick.
_MAX_WAITING = 500


@shared_task(name="ingest.dispatch")
def dispatch() -> None:
    """Send as many drains as datasets are due, less those that wait in the broker."""
    for _ in range(turns.count_due(_MAX_WAITING) - _waiting()):
        drain.delay()


def _waiting() -> int:
    """Return how many triggers nobody has taken yet."""
    with current_app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        count: int = channel.queue_declare(queue=current_app.conf.task_default_queue).message_count
        return count


@shared_task(name="ingest.drain")
def drain() -> None:
    """Store what one dataset's queue holds: the one whose turn it is now, not when this was sent."""
    dataset_id = turns.next_due()
    if dataset_id is not None:
        written = drains.drain(dataset_id)
        if written:  # a look at the storage may wait behind many drains
            heartbeat.leave(heartbeat.STORAGE)
        logger.debug("dataset %s: %s rows stored", dataset_id, written)


@shared_task(name="ingest.tidy")
def tidy() -> None:
    """Compact and vacuum the tables that were written to."""
    upkeep.tidy_tables(everything=False)


@shared_task(name="ingest.sweep")
def sweep() -> None:
    """Apply retention to all tables and delete old counts, unless that was done in the last six hours.

    Beat sends this more often: it forgets its schedule when it ends, and may never run for six hours.
    """
    if upkeep.sweep_is_due():
        statistics.forget_old()
        forget_slots()
        upkeep.tidy_tables(everything=True)
        upkeep.note_sweep()


@shared_task(name="ingest.note_key_use")
def note_key_use() -> None:
    """Write when keys were last used to the database."""
    upkeep.note_key_use()


@shared_task(name="ingest.look_at_storage")
def look_at_storage() -> None:
    """Leave a sign of what the storage looks like from a worker."""
    health.look_at_storage()
