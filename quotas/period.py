"""The quota's period: a calendar month in UTC, written `YYYY-MM`."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache


def period_of(moment: datetime) -> str:
    """Return the period that a UTC time falls into."""
    return f"{moment.year:04}-{moment.month:02}"


@lru_cache(maxsize=4)
def bounds(period: str) -> tuple[datetime, datetime]:
    """Return the start of a period, and the start of the next one."""
    start = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    return start, (start + timedelta(days=31)).replace(day=1)
