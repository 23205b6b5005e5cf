"""Read and change limits, and flush usage from Redis to the database."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError, InterfaceError, connection, transaction
from redis.exceptions import RedisError, ResponseError

from config.common import clock, redis
from config.common.cluster.key_tags import of_user
from config.common.errors import Refused
from datasets import installation, tags
from quotas import counters
from quotas.models import UNLIMITED, MonthlyUsage, QuotaLimit, ThresholdEvent
from quotas.period import period_of
from quotas.signals import quota_threshold_crossed

logger = logging.getLogger(__name__)

THRESHOLDS = (80, 95, 100)  # percent of the limit


class LimitRefused(Refused):
    """Redis did not answer, so a limit could not take effect. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A user's limit and usage in a month.

    Attributes:
        limit: Records per month; -1 is unlimited.
        used: Records charged in the month.
        period: The month, `YYYY-MM`.
    """

    limit: int
    used: int
    period: str

    @property
    def percent(self) -> int | None:
        """The used part of the limit in percent, at most 100. None if there is no limit."""
        if self.limit == UNLIMITED:
            return None
        return min(100, self.used * 100 // self.limit) if self.limit else 100


def current(user_id: int) -> Quota:
    """Return the user's quota this month. Read the counters in Redis, because they decide about requests."""
    period = period_of(clock.now())
    counters.seed(user_id, period)
    limit, used = redis.client().mget(counters.limit_key(user_id), counters.total_key(user_id, period))
    return Quota(int(limit or 0), int(used or 0), period)


def current_many(user_ids: Iterable[int]) -> dict[int, Quota]:
    """Return the quotas of many users this month, by user ID.

    This takes two queries, and one round trip to each server of Redis.

    Use this for pages only. The limits come from the database. If Redis does not answer, the usage also comes from the
    database, and is as of the last flush.
    """
    ids = list(dict.fromkeys(user_ids))
    period = period_of(clock.now())
    limits = dict(QuotaLimit.objects.filter(user_id__in=ids).values_list("user_id", "records_per_month"))
    usage = dict(MonthlyUsage.objects.filter(user_id__in=ids, period=period).values_list("user_id", "used"))
    try:
        counted = redis.each([("GET", counters.total_key(user_id, period)) for user_id in ids])
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
    """Set a user's limit, from the next request on.

    Args:
        user: The owner of the limited projects.
        limit: Records per month; -1 is unlimited, 0 blocks all records.

    Raises:
        ValidationError: The limit is below -1 or above MAX_LIMIT.
        LimitRefused: Redis does not answer.
    """
    row = QuotaLimit.objects.filter(user_id=user.pk).first() or QuotaLimit(user_id=user.pk)
    row.records_per_month = limit
    row.full_clean()
    save_limit(row)


def save_limit(row: QuotaLimit) -> None:
    """Save a limit and put it in force. Raise LimitRefused if Redis does not answer."""
    with transaction.atomic():
        _lock(row.user_id)
        row.save(update_fields=["records_per_month"] if row.pk else None)
        _put_in_force(row.user_id, row.records_per_month)


def delete_limit(row: QuotaLimit) -> None:
    """Delete a limit, so that the default is in force. Raise LimitRefused if Redis does not answer."""
    with transaction.atomic():
        _lock(row.user_id)
        row.delete()
        _put_in_force(row.user_id, settings.DEFAULT_QUOTA_LIMIT)


def _lock(user_id: int) -> bool:
    """Lock a user's quota against changes and flushes until the transaction ends. Return whether the user exists."""
    users = get_user_model().objects.select_for_update(no_key=True)
    return users.filter(pk=user_id).values_list("pk").first() is not None


def _put_in_force(user_id: int, limit: int) -> None:
    """Announce a limit after the transaction is committed. Raise LimitRefused if Redis does not answer now."""
    try:
        redis.client().ping()
    except (RedisError, OSError) as failure:
        raise LimitRefused("Redis does not answer, so the limit could not take effect. Try again.") from failure
    transaction.on_commit(lambda: counters.announce_limit(user_id, limit, period_of(clock.now())), robust=True)


def flush(only: Iterable[int] | None = None) -> int:
    """Write to the database the usage that Redis has counted since the last flush.

    A flush writes absolute totals and never lowers one. So it does no harm if it is repeated, or if two run at the same
    time. If it fails for one user, it goes on with the other users.

    Args:
        only: The tags of the keys to look at. By default all that are in use.

    Returns:
        The number of months, of all users together, that were in `usage_dirty`.

    Raises:
        ExceptionGroup: The failures of single users, after all users were tried.
        UnusableData: The data in Redis belongs to another installation, or has another version.
    """
    installation.check()
    failures = []
    sets = [counters.dirty_key(tag) for tag in (tags.in_use() if only is None else only)]
    found = redis.each([("SMEMBERS", key) for key in sets])
    dirty = [(key, member) for key, members in zip(sets, found, strict=True) for member in members]
    for key, member in dirty:
        try:
            _flush_one(key, member)
        except (DatabaseError, InterfaceError, ResponseError, ValueError) as failure:
            failure.add_note(f"while {key} {member!r} was flushed")
            failures.append(failure)
            # If the database is down, stop here: every other user would fail as well.
            connection.close_if_unusable_or_obsolete()
            connection.ensure_connection()
    if failures:
        raise ExceptionGroup("the usage of some users could not be flushed", failures)
    return len(dirty)


def _flush_one(dirty_key: str, member: bytes) -> None:
    """Flush one user's month. Remove it from `usage_dirty` last, so that a flush that dies is repeated."""
    named = counters.MEMBER.fullmatch(member)
    if named is None:
        logger.error("%s: dropping %r, which names no user and month", dirty_key, member)
        redis.client().srem(dirty_key, member)
        return
    user_id, period = int(named[1]), named[2].decode()
    with transaction.atomic():
        if not _lock(user_id):
            counters.delete_counters(user_id, period)
            return
        counters.seed(user_id, period)  # otherwise a lost total would read as 0
        total = int(redis.client().get(counters.total_key(user_id, period)) or 0)
        if settings.REDIS_WAIT_REPLICAS:  # do not charge for records that a failover could still lose
            redis.require_replicas(tag=of_user(user_id))
        used = _save_usage(user_id, period, total)
        limit = counters.limit_in_database(user_id)
        # Repeat the announcement, which may have been lost. The lock keeps it from overwriting a newer limit.
        redis.client().set(counters.limit_key(user_id), limit)
        events = _record_thresholds(user_id, period, used, limit)
    for event in events:
        for _, failure in quota_threshold_crossed.send_robust(ThresholdEvent, event=event):
            if isinstance(failure, Exception):
                logger.error("a receiver of quota_threshold_crossed failed", exc_info=failure)
    counters.note_flushed(user_id, period, used, limit)


def _save_usage(user_id: int, period: str, used: int) -> int:
    """Increase a month's usage in the database to `used`. Return the database's usage, which may be higher."""
    row = MonthlyUsage.objects.filter(user_id=user_id, period=period).first()
    row = row or MonthlyUsage(user_id=user_id, period=period)
    if row.used < used:
        row.used = used
        row.save()
    return row.used


def _record_thresholds(user_id: int, period: str, used: int, limit: int) -> list[ThresholdEvent]:
    """Record and return the thresholds that were crossed for the first time in the month."""
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
