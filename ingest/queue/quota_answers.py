"""Tell clients about quota, rate limit, backlog and Idempotency-Keys: refusals, and headers of 202 and 429."""

from config.common import clock
from config.common.errors import BodyTooLarge
from config.common.text import counted
from ingest.errors import QueueFull, QuotaExceeded, RateLimited, TooManyKeys, TooManyRecords
from quotas.models import UNLIMITED
from quotas.period import bounds

# Many clients sleep for the whole Retry-After, but an admin may raise the quota in the meantime.
MAX_RETRY_AFTER_SECONDS = 3600
RATE_SECONDS = 60  # the rate limit of a browser key is a number of records in this time

# What is full -> the `detail` of the 503.
_FULL = {
    b"dataset": "The backlog of this dataset has reached its limit. Nothing was queued or charged.",
    b"project": "This project has used its share of the backlog. Nothing was queued or charged.",
    b"all": "The backlog of all datasets has reached its limit. Nothing was queued or charged.",
    b"memory": "Redis has no memory for a longer backlog. Nothing was queued or charged.",
}


def over_quota(limit: int, used: int, requested: int, period: str) -> QuotaExceeded:
    """Return the 429 with the state of the quota. `Retry-After` is capped, `resets_at` is not."""
    _, end = bounds(period)
    seconds = min(max(1, int((end - clock.now()).total_seconds()) + 1), MAX_RETRY_AFTER_SECONDS)
    quota = {
        "limit": limit,
        "used": used,
        "requested": requested,
        "remaining": max(0, limit - used),
        "period": period,
        "resets_at": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return QuotaExceeded({"quota": quota}, {"Retry-After": str(seconds), **quota_headers(limit, used, period)})


def quota_headers(limit: int, used: int, period: str) -> dict[str, str]:
    """Return `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), or {} without a limit."""
    if limit == UNLIMITED:
        return {}
    start, end = bounds(period)
    reset = max(0, int((end - clock.now()).total_seconds()))
    window = int((end - start).total_seconds())
    return {
        "RateLimit-Policy": f'"monthly";q={limit};w={window}',
        "RateLimit": f'"monthly";r={max(0, limit - used)};t={reset}',
    }


def too_fast(limit: int, sent: int, requested: int, seconds: int) -> RateLimited | TooManyRecords:
    """Return the error for records that the rate limit of a browser key does not allow now, or never allows.

    Args:
        limit: How many records the key may send in RATE_SECONDS.
        sent: How many records the key has sent in the last RATE_SECONDS.
        requested: How many records the request has.
        seconds: The number of seconds after which the limit has room for these records.
    """
    if requested > limit:
        detail = f"The rate limit of this browser key is {counted(limit)} a minute. Send its records in smaller parts."
        return TooManyRecords({"limit": limit, "detail": detail})
    remaining = max(0, limit - sent)
    rate = {"limit": limit, "seconds": RATE_SECONDS, "sent": sent, "requested": requested, "remaining": remaining}
    detail = f"All pages with this browser key may send {counted(limit)} a minute. Nothing was queued or charged."
    headers = {
        "Retry-After": str(seconds),
        "RateLimit-Policy": f'"minute";q={limit};w={RATE_SECONDS}',
        "RateLimit": f'"minute";r={remaining};t={seconds}',
    }
    return RateLimited({"rate": rate, "detail": detail}, headers)


def too_many_keys(limit: int, seconds: int) -> TooManyKeys:
    """Return the 429 for a project that has used its maximum number of Idempotency-Keys."""
    detail = (
        f"The project has used {limit} Idempotency-Keys, which is the limit. Send without a key, or wait until "
        "the oldest are forgotten. Nothing was queued or charged."
    )
    retry_after = min(max(1, seconds), MAX_RETRY_AFTER_SECONDS)
    return TooManyKeys({"limit": limit, "detail": detail}, {"Retry-After": str(retry_after)})


def full(what: bytes, size: int, limit: int) -> BodyTooLarge | QueueFull:
    """Return the error for a body that does not fit into the backlog now, or never fits.

    Args:
        what: What is full: a key of `_FULL`.
        size: The bytes of the body in the queue.
        limit: The maximum number of bytes that a body may have in the queue.
    """
    if size <= limit:
        return QueueFull({"detail": _FULL[what]})
    detail = f"The backlog holds at most {limit} bytes, so this body never fits. Send its records in smaller parts."
    refusal = BodyTooLarge({"limit": limit, "detail": detail})
    refusal.confirmed = True
    return refusal
