"""The table for the tests of datasets.tables: project 7, dataset 13, one declared field."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from datasets.schemas.fields import Field
from datasets.tables.layout import PARTITION
from datasets.tables.table import DatasetTable

FIELDS = [Field("Amount", "number")]
UTC = pa.timestamp("us", "UTC")
GENERATION = "0a1b2c3d"


def a_table(dataset_id: int = 13) -> DatasetTable:
    """Return a new handle of the test's table, already refreshed."""
    table = DatasetTable(7, dataset_id)
    table.refresh()
    return table


def rows(*ids: str, day: date = date(2026, 6, 10), **more: list[Any]) -> pa.Table:
    """Return rows like those that a drain makes. `more` are columns in addition to the declared ones."""
    columns = {
        "id": pa.array(ids, pa.string()),
        "project_id": pa.array([7] * len(ids)),
        "dataset_id": pa.array([13] * len(ids)),
        "timestamp": pa.array([0] * len(ids), pa.int64()).cast(UTC),
        "ingested_at": pa.array([0] * len(ids), pa.int64()).cast(UTC),
        "context": pa.array(["{}"] * len(ids)),
        "__traceId": pa.array(["t"] * len(ids)),
        "Amount": pa.array([1.5] * len(ids)),
    }
    columns |= {name: pa.array(values) for name, values in more.items()}
    return pa.table({**columns, PARTITION: pa.array([day] * len(ids), pa.date32())})


def ids(table: DatasetTable) -> list[str]:
    """Refresh the table and return its sorted record ids."""
    table.refresh()
    return sorted(table.delta.to_pyarrow_table()["id"].to_pylist())


def files(table: DatasetTable) -> set[Path]:
    """Return the data files in the table's directory."""
    return set(Path(table.uri).glob("*/*.parquet")) - set(Path(table.uri).glob("_delta_log/*"))


def append(table: DatasetTable, data: pa.Table | None, position: int) -> None:
    """Refresh the table, then commit rows and a position, as a drain does."""
    table.refresh()
    stored = table.stored(GENERATION) + (data.num_rows if data else 0)
    table.append(data, generation=GENERATION, watermark=position, stored=stored)
