"""The one place where the service reads the time of day, so that a test can set it."""

from datetime import UTC, datetime


def now() -> datetime:
    """The current moment, in UTC."""
    return datetime.now(UTC)
