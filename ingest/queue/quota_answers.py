"""What a client is told about its quota: the 429, and the headers of 202 and 429."""

from config.common import clock
from ingest.errors import QuotaExceeded
from quotas.models import UNLIMITED
from quotas.period import bounds

# Common clients sleep for the whole Retry-After, and an admin may raise the quota in the meantime.
MAX_RETRY_AFTER_SECONDS = 3600


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
    """Return `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), or none without a limit."""
    if limit == UNLIMITED:
        return {}
    start, end = bounds(period)
    reset = max(0, int((end - clock.now()).total_seconds()))
    window = int((end - start).total_seconds())
    return {
        "RateLimit-Policy": f'"monthly";q={limit};w={window}',
        "RateLimit": f'"monthly";r={max(0, limit - used)};t={reset}',
    }
