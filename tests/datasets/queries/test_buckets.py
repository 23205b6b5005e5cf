"""Time buckets, with time zones whose clocks are put forward and back."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from datasets.queries.parsing.outputs import timezones
from datasets.schemas.fields import Field
from tests.datasets.queries.conftest import NOW, Store, at

EVER = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}


def buckets(store: Store, unit: str, timezone: str | None = None) -> list[tuple[str, int]]:
    bucket: dict[str, Any] = {"bucket": unit, "field": "timestamp", "as": "start"}
    if timezone:
        bucket["timezone"] = timezone
    answer = store.run(
        range=EVER, select=[bucket, {"aggregate": "count"}], groupBy=["start"], orderBy=[{"field": "start"}], limit=1000
    )
    assert answer.columns[0].type == "timestamp"
    return [(row["start"].isoformat(), row["count"]) for row in answer.rows.to_pylist()]


def add(store: Store, *times: str) -> None:
    store.add([Field("x", "number")], *({"timestamp": at(text), "x": 1.0} for text in times))


@pytest.mark.parametrize(
    ("unit", "start"),
    [
        ("minute", "2026-06-10T10:58:00+00:00"),
        ("hour", "2026-06-10T10:00:00+00:00"),
        ("day", "2026-06-10T00:00:00+00:00"),
        ("week", "2026-06-08T00:00:00+00:00"),  # a Monday
        ("month", "2026-06-01T00:00:00+00:00"),
    ],
)
def test_a_bucket_begins_with_its_unit(store: Store, unit: str, start: str) -> None:
    add(store, "2026-06-10T10:58:59.999999Z")
    assert buckets(store, unit) == [(start, 1)]


def test_a_day_of_a_time_zone_begins_at_its_midnight(store: Store) -> None:
    add(store, "2026-06-09T20:59:59Z", "2026-06-09T21:00:00Z", "2026-06-10T20:59:59Z")
    found = buckets(store, "day", "Europe/Bucharest")
    assert found == [("2026-06-08T21:00:00+00:00", 1), ("2026-06-09T21:00:00+00:00", 2)]


def test_the_hour_that_comes_twice_is_two_buckets(store: Store) -> None:
    add(store, "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")  # both are half past three in Bucharest
    found = buckets(store, "hour", "Europe/Bucharest")
    assert found == [("2026-10-25T00:00:00+00:00", 1), ("2026-10-25T01:00:00+00:00", 1)]


def test_an_hour_of_a_zone_with_half_hours(store: Store) -> None:
    add(store, "2026-06-10T10:29:00Z", "2026-06-10T10:31:00Z")
    found = buckets(store, "hour", "Asia/Kolkata")
    assert found == [("2026-06-10T09:30:00+00:00", 1), ("2026-06-10T10:30:00+00:00", 1)]


def test_a_midnight_that_comes_twice_begins_the_day_once(store: Store) -> None:
    add(store, "2023-11-05T04:30:00Z", "2023-11-05T05:30:00Z")  # both are half past midnight in Havana
    assert buckets(store, "day", "America/Havana") == [("2023-11-05T04:00:00+00:00", 2)]


def test_a_midnight_that_does_not_exist_is_the_moment_of_the_change(store: Store) -> None:
    add(store, "2018-11-04T12:00:00Z")
    assert buckets(store, "day", "America/Sao_Paulo") == [("2018-11-04T03:00:00+00:00", 1)]


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])
@pytest.mark.parametrize("unit", ["day", "month"])
def test_buckets_agree_with_python(store: Store, zone: str, unit: str) -> None:
    times = [NOW + timedelta(hours=7 * n) for n in range(1500)]
    store.add([Field("x", "number")], *({"timestamp": each, "x": 1.0} for each in times))
    expected: dict[str, int] = {}
    for each in times:
        local = each.astimezone(ZoneInfo(zone))
        midnight = datetime(local.year, local.month, 1 if unit == "month" else local.day, tzinfo=ZoneInfo(zone))
        start = midnight.astimezone(ZoneInfo("UTC")).isoformat()
        expected[start] = expected.get(start, 0) + 1
    assert buckets(store, unit, zone) == sorted(expected.items())[:1000]


@pytest.mark.parametrize("unit", ["hour", "day", "month"])
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Auckland"])
def test_the_first_and_the_last_moment_have_buckets(store: Store, unit: str, zone: str) -> None:
    add(store, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")
    bucket = {"bucket": unit, "field": "timestamp", "timezone": zone}
    answer = store.run(range=EVER, select=[bucket, {"aggregate": "count"}], groupBy=[unit])
    assert answer.rows["count"].to_pylist() == [1, 1]


def test_duckdb_knows_every_time_zone(store: Store) -> None:
    names = sorted(timezones())
    assert len(names) > 400
    with duckdb.connect() as database:
        sql = "SELECT count(timezone(name, TIMESTAMPTZ '2026-06-10 10:00:00+00')) FROM (SELECT unnest($1) AS name)"
        found = database.execute(sql, [names]).fetchone()
        assert found is not None
        assert found[0] == len(names)


def test_a_bucket_and_a_field_may_have_one_name(store: Store) -> None:
    add(store, "2026-06-10T10:58:00Z", "2026-06-10T11:58:00Z")
    bucket = {"bucket": "day", "field": "timestamp", "as": "timestamp"}
    found = store.rows(select=[bucket, {"aggregate": "count"}], groupBy=["timestamp"])
    assert found == [{"timestamp": at("2026-06-10T00:00:00Z"), "count": 2}]


def test_a_bucket_holds_the_records_in_it(store: Store) -> None:
    """Python and DuckDB may know different rules of a time zone. One query must not use the rules of both."""
    add(
        store,
        *(f"{year}-{month:02}-05T{hour:02}:22:00Z" for year in (1926, 2027) for month in (7, 12) for hour in range(24)),
    )
    for zone in ("America/Edmonton", "Africa/Accra", "CET", *random.sample(sorted(timezones()), 10)):
        bucket = {"bucket": "day", "field": "timestamp", "timezone": zone}
        select = [bucket, *({"aggregate": each, "field": "timestamp", "as": each} for each in ("min", "max"))]
        for row in store.rows(range=EVER, select=select, groupBy=["day"]):
            assert row["day"] <= row["min"] <= row["max"] < row["day"] + timedelta(hours=26), (zone, row)
