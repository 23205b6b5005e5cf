"""What workers do. Tasks are triggers: one that is lost, doubled or late costs time, not data."""

import logging

from celery import shared_task
from django.conf import settings

from ingest import drain as drains
from ingest import health, queue, upkeep

logger = logging.getLogger(__name__)

# More in one go would fill the broker before the first is done; the rest is due at the next tick.
_MOST_AT_ONCE = 1000


@shared_task(name="ingest.dispatch")
def dispatch() -> None:
    """Send a drain to each dataset that is due."""
    for dataset_id in queue.due(_MOST_AT_ONCE):
        drain.apply_async((dataset_id,), expires=settings.DRAIN_LEASE_SECONDS)


@shared_task(name="ingest.drain")
def drain(dataset_id: int) -> None:
    """Store what the dataset's queue holds."""
    written = drains.drain(dataset_id)
    logger.debug("dataset %s: %s rows stored", dataset_id, written)


@shared_task(name="ingest.tidy")
def tidy(everything: bool = False) -> None:
    """Compact and vacuum the tables that were written to; with `everything`, apply retention to all."""
    upkeep.tidy_tables(everything=everything)


@shared_task(name="ingest.note_key_use")
def note_key_use() -> None:
    """Write when keys were last used to the database."""
    upkeep.note_key_use()


@shared_task(name="ingest.heartbeat")
def heartbeat() -> None:
    """Leave a worker's sign of life."""
    health.beat()
