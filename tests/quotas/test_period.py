"""The quota's period: a calendar month in UTC."""

from datetime import UTC, datetime, timedelta

import pytest

from quotas.period import bounds, period_of

MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("2026-01", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-11", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12", datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("2028-02", datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("9998-12", datetime(9998, 12, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_period_ends_where_the_next_one_starts(period: str, start: datetime, end: datetime) -> None:
    assert bounds(period) == (start, end)
    assert period_of(start) == period_of(end - MICROSECOND) == period
    assert period_of(start - MICROSECOND) != period
    assert period_of(end) != period


def test_february_of_a_leap_year_has_29_days() -> None:
    assert [(end - start).days for start, end in map(bounds, ("2027-02", "2028-02"))] == [28, 29]
