"""Round times down to buckets of a time zone, with Python's own zoneinfo."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


def bucket(moment: datetime, unit: str, zone: str = "UTC") -> datetime:
    """Return the start, in UTC, of the minute, hour, day, week or month in which a time lies."""
    there = moment.astimezone(ZoneInfo(zone))
    if unit in ("minute", "hour"):
        # When clocks are set back, an hour of the clock occurs twice. Each of the two hours is a bucket.
        start = there.replace(second=0, microsecond=0, tzinfo=None)
        if unit == "hour":
            start = start.replace(minute=0)
        offset = there.utcoffset()
        assert offset is not None
        return (start - offset).replace(tzinfo=UTC)
    day = there.date()
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    # If clocks skip midnight, zoneinfo uses the offset from before the change. So the result is the first moment of the
    # day.
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
