"""Limits and usage: read, changed, and written from Redis to the database."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from redis.exceptions import RedisError

from config import clock, redis
from quotas import counters
from quotas.models import UNLIMITED, MonthlyUsage, QuotaLimit, ThresholdEvent
from quotas.period import period_of
from quotas.signals import quota_threshold_crossed

logger = logging.getLogger(__name__)

THRESHOLDS = (80, 95, 100)  # percent of the limit
_LOWER_DELTA = Path(__file__).parent / "lua" / "lower_delta.lua"


class LimitRefused(Exception):
    """A limit that could not take effect, because Redis did not answer. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A user's quota as it stands."""

    limit: int
    used: int
    period: str

    @property
    def percent(self) -> int | None:
        """Of the limit that is used, at most 100; None where there is no limit."""
        if self.limit == UNLIMITED:
            return None
        return min(100, self.used * 100 // self.limit) if self.limit else 100


def current(user_id: int) -> Quota:
    """The user's quota this month, by the counters that decide."""
    period = period_of(clock.now())
    counters.seed(user_id, period)
    limit, used = redis.client().mget(counters.limit_key(user_id), counters.total_key(user_id, period))
    return Quota(int(limit or 0), int(used or 0), period)


def currents(user_ids: Iterable[int]) -> dict[int, Quota]:
    """Many users' quotas this month, in two queries and one look at Redis; for people to look at."""
    ids = list(dict.fromkeys(user_ids))
    period = period_of(clock.now())
    limits = dict(QuotaLimit.objects.filter(user_id__in=ids).values_list("user_id", "records_per_month"))
    usage = dict(MonthlyUsage.objects.filter(user_id__in=ids, period=period).values_list("user_id", "used"))
    counted = redis.client().mget([counters.total_key(user_id, period) for user_id in ids]) if ids else []
    return {
        user_id: Quota(
            limits.get(user_id, settings.DEFAULT_QUOTA_LIMIT),
            usage.get(user_id, 0) if total is None else int(total),
            period,
        )
        for user_id, total in zip(ids, counted, strict=True)
    }


def set_limit(user: AbstractBaseUser, limit: int) -> None:
    """Give a user a limit (records a month; -1 unlimited, 0 blocks), effective on the next request.

    Raises ValidationError, or LimitRefused where Redis does not answer.
    """
    row = QuotaLimit.objects.filter(user_id=user.pk).first() or QuotaLimit(user_id=user.pk)
    row.records_per_month = limit
    row.full_clean()
    save_limit(row)


def save_limit(row: QuotaLimit) -> None:
    """Save a limit and have it in force. Raises LimitRefused."""
    with transaction.atomic():
        row.save()
        _put_in_force(row.user_id, row.records_per_month)


def delete_limit(row: QuotaLimit) -> None:
    """Give the user the default limit again. Raises LimitRefused."""
    with transaction.atomic():
        row.delete()
        _put_in_force(row.user_id, settings.DEFAULT_QUOTA_LIMIT)


def _put_in_force(user_id: int, limit: int) -> None:
    """Announce a limit once the transaction is committed; refuse it where Redis could not be told."""
    try:
        redis.client().ping()
    except (RedisError, OSError) as failure:
        raise LimitRefused("Redis does not answer, so the limit could not take effect. Try again.") from failure
    transaction.on_commit(lambda: redis.client().set(counters.limit_key(user_id), limit), robust=True)


def flush() -> int:
    """Write the usage that Redis counted since the last flush to the database; the number of months written.

    Absolute totals are written, and never lowered: a flush that is repeated, or overtaken by another, does no harm.
    """
    client = redis.client()
    members = [member.decode() for member in client.smembers(counters.DIRTY)]
    for member in members:
        user_id, period = member.split(":")
        _flush_one(int(user_id), period, member)
    return len(members)


def _flush_one(user_id: int, period: str, member: str) -> None:
    client = redis.client()
    counters.seed(user_id, period)  # a total that was lost is not 0
    total, limit = client.mget(counters.total_key(user_id, period), counters.limit_key(user_id))
    used = int(total or 0)
    with transaction.atomic():
        row, created = MonthlyUsage.objects.get_or_create(user_id=user_id, period=period, defaults={"used": used})
        if not created:
            MonthlyUsage.objects.filter(pk=row.pk, used__lt=used).update(used=used, updated_at=clock.now())
    redis.load_script(_LOWER_DELTA)(
        keys=[counters.total_key(user_id, period), counters.delta_key(user_id, period), counters.DIRTY],
        args=[used, member],
    )
    stored_limit = counters.limit_of(user_id)
    if int(limit or 0) != stored_limit:  # an announcement that was lost
        client.set(counters.limit_key(user_id), stored_limit)
    _record_thresholds(user_id, period, used, stored_limit)


def _record_thresholds(user_id: int, period: str, used: int, limit: int) -> None:
    if limit == UNLIMITED or limit == 0:
        return
    for percent in THRESHOLDS:
        if used * 100 < limit * percent:
            break
        event, created = ThresholdEvent.objects.get_or_create(
            user_id=user_id, period=period, percent=percent, defaults={"used": used, "limit": limit}
        )
        if created:
            for _, failure in quota_threshold_crossed.send_robust(ThresholdEvent, event=event):
                if isinstance(failure, Exception):
                    logger.error("a receiver of quota_threshold_crossed failed", exc_info=failure)
