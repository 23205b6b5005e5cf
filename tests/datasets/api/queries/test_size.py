"""A query of a large table reads only the days that it asks for.

A normal run has 30 days with 300,000 rows. `python -m tests.datasets.queries size` has a year with 50 million rows. It
also checks the processor time, the memory, and the time that a query takes on an idle machine. It needs 4 GB of disk.
"""

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from django.conf import settings

from datasets import services
from datasets.models import Dataset, Project
from datasets.queries.processes.pool import POOL
from datasets.schemas.declarations import parse_fields
from datasets.tables.table import DatasetTable
from tests.datasets.api.conftest import Management, alice, client, shop

__all__ = ["alice", "client", "shop"]  # fixtures

ROWS = int(os.environ.get("ROWS", "300000"))
IS_FULL = ROWS >= 50_000_000
DAYS = 365 if IS_FULL else 30
DAY = timedelta(days=1)
MAX_MEMORY = 256 * 1024**2
FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
TIME = pa.timestamp("us", "UTC")
GROUPS = {
    "select": [{"field": "country"}, {"aggregate": "count"}, {"aggregate": "sum", "field": "amount"}],
    "groupBy": ["country"],
    "orderBy": [{"field": "count", "direction": "desc"}],
}


class Cost(NamedTuple):
    """The cost of a query. The times are in seconds. The memory is that of the process that ran the query."""

    first: float
    later: float
    processor: float
    memory: int
    answer: dict[str, Any]


@pytest.fixture
def year(shop: Project, tmp_path: Path) -> Iterator[Dataset]:
    """Yield a dataset with a table that has one file for each day, as after compaction. The last day is today."""
    dataset = services.create_dataset(project=shop, name="Year", fields=parse_fields({"fields": FIELDS}))
    began, stored = time.monotonic(), 0
    table = DatasetTable.of(dataset)
    table.refresh()
    table.create(parse_fields({"fields": FIELDS}))
    for number in range(DAYS):
        rows = day(number, dataset)
        stored += rows.num_rows
        table.append(rows, generation="0a1b2c3d", watermark=number + 1, stored=stored)
        table.refresh()
    services.note_table(dataset)
    print(f"{stored:,} rows, {table_bytes(dataset):,} bytes, written in {time.monotonic() - began:.0f} s")
    yield dataset
    shutil.rmtree(settings.STORAGE_URL)


def day(number: int, dataset: Dataset) -> pa.Table:
    """Return the rows of a day, in the order of their acceptance."""
    chance, size = np.random.default_rng(number), ROWS // DAYS
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) - DAY * (DAYS - 1 - number)
    width = (min(start + DAY, now) - start) // timedelta(microseconds=1)
    times = np.sort(chance.integers(0, width, size)) + int(start.timestamp()) * 1_000_000
    moments = pa.array(times).cast(TIME)
    milliseconds = pc.utf8_lpad(pa.array(times // 1000).cast(pa.string()), 13, "0")
    places = pc.utf8_lpad(pa.array(np.arange(size)).cast(pa.string()), 5, "0")
    noise = pa.array(chance.integers(0, 2**40, size)).cast(pa.string())
    countries = pa.array([f"{first}{second}" for first in "ABCDEFGHIJ" for second in "KLMNO"])
    columns: dict[str, Any] = {
        "id": pc.binary_join_element_wise(milliseconds, "0000000", places, "-"),
        "project_id": np.full(size, dataset.project_id),
        "dataset_id": np.full(size, dataset.pk),
        "timestamp": moments,
        "ingested_at": moments,
        "context": pc.binary_join_element_wise('{"source":"billing-service","request_id":"req_', noise, '"}', ""),
        "__traceId": pc.binary_join_element_wise("request", noise, "-"),
        "__schemaVersion": np.full(size, 1, np.int32),
        "country": countries.take(pa.array(chance.integers(0, len(countries), size))),
        "plan": pa.array(["free", "pro", "team"]).take(pa.array(chance.integers(0, 3, size))),
        "amount": np.round(chance.gamma(2, 20, size), 2),
        "active": pa.array(chance.random(size) < 0.8),
        "signup_at": pa.array(times - chance.integers(0, 10**13, size)).cast(TIME),
        "ingested-on": pa.array([start.date()] * size),
    }
    return pa.table(columns)


def table_bytes(dataset: Dataset) -> int:
    """Return the size of the table's data files."""
    root = Path(settings.STORAGE_URL) / f"project_{dataset.project_id}" / f"dataset_{dataset.pk}"
    return sum(path.stat().st_size for path in root.glob("*/*.parquet") if "_delta_log" not in path.parts)


def cost(client: Management, dataset: Dataset, query: dict[str, Any]) -> Cost:
    """Send a query five times. A new process answers the first time."""
    POOL.end()
    waited: list[float] = []
    used: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        answer = client.ok("POST", f"/datasets/shop/{dataset.pk}/query", query)
        waited.append(time.perf_counter() - began)
        (process,) = map(psutil.Process, POOL.pids())
        times = process.cpu_times()
        used.append(times.user + times.system)
    found = Cost(waited[0], min(waited[1:]), (used[-1] - used[0]) / 4, process.memory_full_info().uss, answer)
    print(f"{found._replace(answer=answer['stats'])}")
    return found


def test_a_query_of_a_day_reads_about_a_day(client: Management, year: Dataset) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    range_of_a_day = {
        "from": (today - 3 * DAY).isoformat(),
        "to": (today - 2 * DAY - timedelta(microseconds=1)).isoformat(),
    }
    of_a_day = cost(client, year, {**GROUPS, "range": range_of_a_day})
    default = cost(client, year, {})
    assert sum(row["count"] for row in of_a_day.answer["rows"]) == ROWS // DAYS
    assert of_a_day.answer["stats"]["files_scanned"] == 1
    assert of_a_day.answer["stats"]["bytes_scanned"] < table_bytes(year) * 1.5 / DAYS
    assert 6 * (ROWS // DAYS) < default.answer["rows"][0]["count"] <= 8 * (ROWS // DAYS)
    if IS_FULL:
        assert of_a_day.processor <= 1
        assert of_a_day.memory <= MAX_MEMORY
        assert default.processor <= 0.3
        cost(client, year, {**GROUPS, "range": {"from": (today - DAYS * DAY).isoformat()}})
