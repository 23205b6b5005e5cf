"""Confirm cached contracts with the database before CATALOG_TTL_SECONDS have passed, a hundred at a time.

Many contracts become due at the same time. Reading each contract when a client asks for it would cost far more.
"""

import logging
import time
from collections.abc import Mapping

from django.conf import settings

from datasets.contracts import cache, reading, revisions
from datasets.contracts.cache import Asked, Entry

logger = logging.getLogger(__name__)

_CONFIRMED_AT_ONCE = 100
# The pause between two groups, in which requests are served.
_PAUSE_SECONDS = 0.001
# A contract that no request has used for this long is not confirmed any more.
_IDLE_SECONDS = 600.0


def keep_confirmed() -> None:
    """Confirm contracts that are due, forever. Each web process runs this in a thread."""
    while True:
        time.sleep(settings.CATALOG_TTL_SECONDS / 10)
        try:
            confirm_due()
        except Exception:  # requests will read these contracts again, one by one
            logger.exception("contracts could not be confirmed")


def confirm_due() -> None:
    """Confirm the contracts that are due. Forget those that have changed or are not in use any more.

    Raises DatabaseError or RedisError.
    """
    for _ in range(0, cache.contracts(), _CONFIRMED_AT_ONCE):
        moment, due = time.monotonic(), cache.due(_CONFIRMED_AT_ONCE)
        if not due:
            break
        used = {asked: entry for asked, entry in due.items() if entry.used_at > moment - _IDLE_SECONDS}
        cache.prolong(due, _unchanged(used) if used else set(), moment)
        time.sleep(_PAUSE_SECONDS)


def _unchanged(entries: Mapping[Asked, Entry]) -> set[Asked]:
    """Return the entries that were read under the revision in force, from rows that the database still has."""
    standing = revisions.current_many({entry.claims.project_id for entry in entries.values()})
    key_ids = {entry.rows[0].id for entry in entries.values() if entry.rows[0]}
    dataset_ids = {entry.rows[1].id for entry in entries.values() if entry.rows[1]}
    keys, datasets = reading.rows(key_ids, dataset_ids)
    return {
        asked
        for asked, entry in entries.items()
        if entry.revision == standing.get(entry.claims.project_id)
        and entry.rows[0] in keys
        and entry.rows[1] in datasets
    }
