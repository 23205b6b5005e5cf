"""Compare a user's quota in Redis and in the database."""

from typing import NamedTuple

from django.contrib.auth.models import User

from config.common import clock, redis
from config.common.cluster.key_tags import of_user
from quotas import counters
from quotas.models import MonthlyUsage, ThresholdEvent
from quotas.period import period_of


class Books(NamedTuple):
    """A user's usage in a month: total and delta in Redis, and the amount in the database."""

    total: int | None
    delta: int | None
    is_dirty: bool
    in_database: int | None


def this_month() -> str:
    return period_of(clock.now())


def books(user: User, period: str | None = None) -> Books:
    period = period or this_month()
    user_id = user.pk
    total, delta = redis.client().mget(counters.total_key(user_id, period), counters.delta_key(user_id, period))
    return Books(
        None if total is None else int(total),
        None if delta is None else int(delta),
        bool(redis.client().sismember(counters.dirty_key(of_user(user_id)), f"{user_id}:{period}")),
        MonthlyUsage.objects.filter(user_id=user_id, period=period).values_list("used", flat=True).first(),
    )


def balanced(used: int) -> Books:
    """Return the books that a flush leaves: Redis and the database have the same amount."""
    return Books(used, None, False, used)


def limit_in_force(user: User) -> int | None:
    found = redis.client().get(counters.limit_key(user.pk))
    return None if found is None else int(found)


def charge(user: User, count: int, period: str | None = None) -> None:
    """Charge records to a user as ingest/queue/lua/admit.lua does."""
    period = period or this_month()
    counters.seed(user.pk, period)
    with redis.pipeline(counters.total_key(user.pk, period), transaction=True) as step:
        step.incrby(counters.total_key(user.pk, period), count)
        step.incrby(counters.delta_key(user.pk, period), count)
        step.sadd(counters.dirty_key(of_user(user.pk)), f"{user.pk}:{period}")
        step.execute()


def thresholds(user: User) -> list[tuple[str, int]]:
    """Return the month and percentage of every recorded threshold."""
    events = ThresholdEvent.objects.filter(user_id=user.pk).order_by("period", "percent")
    return list(events.values_list("period", "percent"))
