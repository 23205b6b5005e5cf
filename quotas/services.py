"""Limits and usage: read, changed, and written from Redis to the database."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError, InterfaceError, connection, transaction
from redis.exceptions import RedisError, ResponseError

from config.common import clock, redis
from config.common.errors import Refused
from datasets import installation
from quotas import counters
from quotas.models import UNLIMITED, MonthlyUsage, QuotaLimit, ThresholdEvent
from quotas.period import period_of
from quotas.signals import quota_threshold_crossed

logger = logging.getLogger(__name__)

THRESHOLDS = (80, 95, 100)  # percent of the limit


class LimitRefused(Refused):
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


def current_many(user_ids: Iterable[int]) -> dict[int, Quota]:
    """Many users' quotas this month, in two queries and one look at Redis; for people to look at.

    While Redis is away, usage is as of the last flush.
    """
    ids = list(dict.fromkeys(user_ids))
    period = period_of(clock.now())
    limits = dict(QuotaLimit.objects.filter(user_id__in=ids).values_list("user_id", "records_per_month"))
    usage = dict(MonthlyUsage.objects.filter(user_id__in=ids, period=period).values_list("user_id", "used"))
    try:
        counted = redis.client().mget([counters.total_key(user_id, period) for user_id in ids]) if ids else []
    except (RedisError, OSError):
        counted = [None] * len(ids)
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
        _lock(row.user_id)
        row.save(update_fields=["records_per_month"] if row.pk else None)
        _put_in_force(row.user_id, row.records_per_month)


def delete_limit(row: QuotaLimit) -> None:
    """Give the user the default limit again. Raises LimitRefused."""
    with transaction.atomic():
        _lock(row.user_id)
        row.delete()
        _put_in_force(row.user_id, settings.DEFAULT_QUOTA_LIMIT)


def _lock(user_id: int) -> bool:
    """Keep others from changing or flushing this user's quota until the transaction ends; whether there is a user."""
    users = get_user_model().objects.select_for_update(no_key=True)
    return users.filter(pk=user_id).values_list("pk").first() is not None


def _put_in_force(user_id: int, limit: int) -> None:
    """Announce a limit once the transaction is committed; refuse it where Redis could not be told."""
    try:
        redis.client().ping()
    except (RedisError, OSError) as failure:
        raise LimitRefused("Redis does not answer, so the limit could not take effect. Try again.") from failure
    transaction.on_commit(lambda: counters.announce_limit(user_id, limit, period_of(clock.now())), robust=True)


def flush() -> int:
    """Write the usage that Redis counted since the last flush to the database; the number of months looked at.

    Absolute totals are written, and never lowered: a flush that is repeated, or overtaken by another, does no harm.
    Whatever keeps one user's usage from being written, the others' is; it is raised in the end.
    """
    installation.check()
    failures = []
    members = redis.client().smembers(counters.DIRTY)
    for member in members:
        try:
            _flush_one(member)
        except (DatabaseError, InterfaceError, ResponseError, ValueError) as failure:
            failure.add_note(f"while {counters.DIRTY} {member!r} was flushed")
            failures.append(failure)
            # A database that is away is not one user's failure: this raises.
            connection.close_if_unusable_or_obsolete()
            connection.ensure_connection()
    if failures:
        raise ExceptionGroup("usage that could not be flushed", failures)
    return len(members)


def _flush_one(member: bytes) -> None:
    """Write one user's usage of one month, and only then take the user for clean: who dies on the way leaves work."""
    named = counters.MEMBER.fullmatch(member)
    if named is None:
        logger.error("%s: %r names no user and month, and is dropped", counters.DIRTY, member)
        redis.client().srem(counters.DIRTY, member)
        return
    user_id, period = int(named[1]), named[2].decode()
    with transaction.atomic():
        if not _lock(user_id):
            counters.forget(user_id, period)
            return
        counters.seed(user_id, period)  # a total that was lost is not 0
        used = _remember(user_id, period, int(redis.client().get(counters.total_key(user_id, period)) or 0))
        limit = counters.limit_of(user_id)
        # Should its announcement have been lost. Under the lock: it cannot undo one that is yet to be made.
        redis.client().set(counters.limit_key(user_id), limit)
        events = _record_thresholds(user_id, period, used, limit)
    for event in events:
        for _, failure in quota_threshold_crossed.send_robust(ThresholdEvent, event=event):
            if isinstance(failure, Exception):
                logger.error("a receiver of quota_threshold_crossed failed", exc_info=failure)
    counters.settle(user_id, period, used, limit)


def _remember(user_id: int, period: str, used: int) -> int:
    """Have the database know a month's total; the larger of the two, which it knows now."""
    row = MonthlyUsage.objects.filter(user_id=user_id, period=period).first()
    row = row or MonthlyUsage(user_id=user_id, period=period)
    if row.used < used:
        row.used = used
        row.save()
    return row.used


def _record_thresholds(user_id: int, period: str, used: int, limit: int) -> list[ThresholdEvent]:
    """Record what was crossed for the first time in the month."""
    if limit in (UNLIMITED, 0):
        return []
    crossed = [percent for percent in THRESHOLDS if used * 100 >= limit * percent]
    if not crossed:
        return []
    known = ThresholdEvent.objects.filter(user_id=user_id, period=period).values_list("percent", flat=True)
    return [
        ThresholdEvent.objects.create(user_id=user_id, period=period, percent=percent, used=used, limit=limit)
        for percent in sorted(set(crossed) - set(known))
    ]
