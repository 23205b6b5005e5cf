"""The quota's counters in Redis, and how they are seeded from the database.

Redis decides, the database remembers: `ingest/queue/lua/admit.lua` charges these counters in the step that queues.

Redis keys (the first three are the contract's, to the letter)
    quota_limit:datasets:<userId>             records a month; -1 unlimited, 0 blocks
    usage_total:datasets:<userId>:YYYY-MM     records charged in the month
    usage_delta:datasets:<userId>:YYYY-MM     of these, not yet written to the database
    usage_dirty:datasets                      set of `<userId>:YYYY-MM` that the next flush has to look at: the delta
                                              is not 0, or the limit was changed
"""

import re

from django.conf import settings

from config.common.redis import client
from quotas.models import MonthlyUsage, QuotaLimit
from quotas.scripts import script

DIRTY = "usage_dirty:datasets"
MEMBER = re.compile(rb"([1-9][0-9]{0,18}):([0-9]{4}-(?:0[1-9]|1[0-2]))")
# A month's counters outlive the month by long enough for any flush, and then make room.
COUNTER_TTL_SECONDS = 100 * 24 * 3600


def limit_key(user_id: int) -> str:
    return f"quota_limit:datasets:{user_id}"


def total_key(user_id: int, period: str) -> str:
    return f"usage_total:datasets:{user_id}:{period}"


def delta_key(user_id: int, period: str) -> str:
    return f"usage_delta:datasets:{user_id}:{period}"


def member(user_id: int, period: str) -> str:
    return f"{user_id}:{period}"


def limit_of(user_id: int) -> int:
    """The user's limit as the database has it."""
    limit = QuotaLimit.objects.filter(user_id=user_id).values_list("records_per_month", flat=True).first()
    return settings.DEFAULT_QUOTA_LIMIT if limit is None else limit


def seed(user_id: int, period: str) -> None:
    """Put counters that are missing in Redis (a new month, a new user, a wiped Redis) back from the database."""
    used = MonthlyUsage.objects.filter(user_id=user_id, period=period).values_list("used", flat=True).first()
    script("seed")(
        keys=[limit_key(user_id), total_key(user_id, period), delta_key(user_id, period)],
        args=[limit_of(user_id), used or 0, COUNTER_TTL_SECONDS],
    )


def settle(user_id: int, period: str, used: int, limit: int) -> None:
    """Take off the delta what the database has, and the user off the dirty ones where nothing is left to do."""
    script("settle")(
        keys=[total_key(user_id, period), delta_key(user_id, period), DIRTY, limit_key(user_id)],
        args=[used, member(user_id, period), limit, COUNTER_TTL_SECONDS],
    )


def announce_limit(user_id: int, limit: int, period: str) -> None:
    """Have a limit in force, and the next flush look at it: it may have been overtaken by another; and what is used
    may be beyond a threshold of the new one."""
    with client().pipeline(transaction=True) as step:
        step.set(limit_key(user_id), limit)
        step.sadd(DIRTY, member(user_id, period))
        step.execute()


def forget(user_id: int, period: str) -> None:
    """Drop the counters of a user who is no more."""
    with client().pipeline(transaction=True) as step:
        step.delete(limit_key(user_id), total_key(user_id, period), delta_key(user_id, period))
        step.srem(DIRTY, member(user_id, period))
        step.execute()
