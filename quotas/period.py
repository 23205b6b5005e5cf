"""The quota's period: a calendar month, in UTC, written `YYYY-MM`."""

from datetime import UTC, datetime
from functools import lru_cache


def period_of(moment: datetime) -> str:
    """The period a moment falls into."""
    return f"{moment.year:04}-{moment.month:02}"


@lru_cache(maxsize=4)
def bounds(period: str) -> tuple[datetime, datetime]:
    """The first moment of a period, and the first after it."""
    year, month = int(period[:4]), int(period[5:])
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + 1, 1, 1, tzinfo=UTC) if month == 12 else datetime(year, month + 1, 1, tzinfo=UTC)
    return start, end
