"""Read the time of day. The whole service reads it here, so that a test can set it."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def seconds() -> float:
    """Return the seconds since the Unix epoch. The request path uses this, because it is faster than `now`."""
    return time.time()


def milliseconds() -> int:
    """Return the whole milliseconds since the Unix epoch, the unit of Redis stream IDs."""
    return int(time.time() * 1000)
