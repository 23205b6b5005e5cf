"""The quota's counters in Redis, and how the database seeds them.

Redis decides whether a request fits the quota: `ingest/queue/lua/admit.lua` charges these counters in the step that
queues the records. The database remembers the usage.

Redis keys (the API's specification fixes the first three; in a cluster, <userId> is the tag and has braces)
    quota_limit:datasets:<userId>             records per month; -1 is unlimited, 0 blocks all records
    usage_total:datasets:<userId>:YYYY-MM     the total: records charged in the month
    usage_delta:datasets:<userId>:YYYY-MM     the delta: charged records of the month that the database still lacks
    usage_dirty:datasets                      set of `<userId>:YYYY-MM` that the next flush must handle, because the
                                              delta is not 0 or the limit was changed. In a cluster, each user has a
                                              set of their own
"""

import re

from django.conf import settings

from config.common.cluster.key_tags import of_user, tagged
from config.common.redis import pipeline
from quotas.models import MonthlyUsage, QuotaLimit
from quotas.scripts import script

MEMBER = re.compile(rb"([1-9][0-9]{0,18}):([0-9]{4}-(?:0[1-9]|1[0-2]))")
# Counters live for 100 days: long after their month, so that any flush still finds them.
COUNTER_TTL_SECONDS = 100 * 24 * 3600


def limit_key(user_id: int) -> str:
    """Return the Redis key of a user's limit."""
    return f"quota_limit:datasets:{_written(user_id)}"


def total_key(user_id: int, period: str) -> str:
    """Return the Redis key of a month's total: the number of records charged to a user."""
    return f"usage_total:datasets:{_written(user_id)}:{period}"


def delta_key(user_id: int, period: str) -> str:
    """Return the Redis key of a month's delta: the number of charged records that the database does not have yet."""
    return f"usage_delta:datasets:{_written(user_id)}:{period}"


def dirty_key(tag: int) -> str:
    """Return the Redis key of the months to flush. In a cluster, they are those of the user with this tag."""
    return tagged("usage_dirty:datasets", tag)


def _written(user_id: int) -> str:
    """Return a user's ID for the name of a counter. In a cluster it has braces, because it is also the tag."""
    return f"{{{user_id}}}" if of_user(user_id) else str(user_id)


def member(user_id: int, period: str) -> str:
    """Return the member of `usage_dirty` for a user's month."""
    return f"{user_id}:{period}"


def limit_in_database(user_id: int) -> int:
    """Return the user's limit in records per month, or the default if the database has none."""
    limit = QuotaLimit.objects.filter(user_id=user_id).values_list("records_per_month", flat=True).first()
    return settings.DEFAULT_QUOTA_LIMIT if limit is None else limit


def seed(user_id: int, period: str) -> None:
    """Copy the limit and the month's total from the database, each only if Redis does not have it.

    In a new month, Redis does not have the total. For a new user, or after Redis was wiped, it has neither of them.
    """
    used = MonthlyUsage.objects.filter(user_id=user_id, period=period).values_list("used", flat=True).first()
    script("seed")(
        keys=[limit_key(user_id), total_key(user_id, period), delta_key(user_id, period)],
        args=[limit_in_database(user_id), used or 0, COUNTER_TTL_SECONDS],
    )


def note_flushed(user_id: int, period: str, used: int, limit: int) -> None:
    """Set a month's delta to the number of charged records that the database still lacks after a flush.

    If it lacks none, and the limit has not changed since the flush read it, remove the month from `usage_dirty`.

    Args:
        user_id: The user that the records were charged to.
        period: The month, `YYYY-MM`.
        used: The month's usage in the database, in records.
        limit: The user's limit in the database, in records per month.
    """
    script("note_flushed")(
        keys=[
            total_key(user_id, period),
            delta_key(user_id, period),
            dirty_key(of_user(user_id)),
            limit_key(user_id),
        ],
        args=[used, member(user_id, period), limit, COUNTER_TTL_SECONDS],
    )


def announce_limit(user_id: int, limit: int, period: str) -> None:
    """Put a limit in force, and add the user's month to `usage_dirty`, so that the next flush handles it.

    The flush reads the limit again, because a later change may have been announced first. The flush also records any
    threshold that the usage now crosses.
    """
    with pipeline(limit_key(user_id), transaction=True) as step:
        step.set(limit_key(user_id), limit)
        step.sadd(dirty_key(of_user(user_id)), member(user_id, period))
        step.execute()


def delete_counters(user_id: int, period: str) -> None:
    """Delete the counters of a user who was deleted."""
    with pipeline(limit_key(user_id), transaction=True) as step:
        step.delete(limit_key(user_id), total_key(user_id, period), delta_key(user_id, period))
        step.srem(dirty_key(of_user(user_id)), member(user_id, period))
        step.execute()
