"""The quota's counters in Redis, and how they are seeded from the database.

Redis decides, the database remembers: `ingest/lua/admit.lua` charges these counters in the step that queues.

Redis keys (the first three are the contract's, to the letter)
    quota_limit:datasets:<userId>             records a month; -1 unlimited, 0 blocks
    usage_total:datasets:<userId>:YYYY-MM     records charged in the month
    usage_delta:datasets:<userId>:YYYY-MM     of these, not yet written to the database
    usage_dirty:datasets                      set of `<userId>:YYYY-MM` whose delta is not 0
"""

from pathlib import Path

from django.conf import settings

from config.redis import load_script
from quotas.models import MonthlyUsage, QuotaLimit

DIRTY = "usage_dirty:datasets"
# A month's counters outlive the month by long enough for any flush, and then make room.
COUNTER_TTL_SECONDS = 100 * 24 * 3600


def limit_key(user_id: int) -> str:
    return f"quota_limit:datasets:{user_id}"


def total_key(user_id: int, period: str) -> str:
    return f"usage_total:datasets:{user_id}:{period}"


def delta_key(user_id: int, period: str) -> str:
    return f"usage_delta:datasets:{user_id}:{period}"


def limit_of(user_id: int) -> int:
    """The user's limit as the database has it."""
    limit = QuotaLimit.objects.filter(user_id=user_id).values_list("records_per_month", flat=True).first()
    return settings.DEFAULT_QUOTA_LIMIT if limit is None else limit


def seed(user_id: int, period: str) -> None:
    """Put counters that are missing in Redis (a new month, a new user, a wiped Redis) back from the database."""
    used = MonthlyUsage.objects.filter(user_id=user_id, period=period).values_list("used", flat=True).first()
    load_script(Path(__file__).parent / "lua" / "seed.lua")(
        keys=[limit_key(user_id), total_key(user_id, period), delta_key(user_id, period)],
        args=[limit_of(user_id), used or 0, COUNTER_TTL_SECONDS],
    )
