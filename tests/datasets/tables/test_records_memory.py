"""Exports of large values: memory is limited in bytes for any number of rows, and no record is missing."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from deltalake import write_deltalake

from config.common.env import BASE_DIR
from datasets.models import Dataset
from datasets.schemas.fields import Field
from datasets.tables.layout import PARTITION, base_columns
from datasets.tables.table import DatasetTable
from tests.test_commands import environment

pytestmark = pytest.mark.long

MB = 1024**2
# About half of the size of all records.
MAX_PEAK_BYTES = 900 * MB


def fill(dataset: Dataset, sizes: list[int]) -> None:
    """Write one record for each size directly to the table, with a text of this size. Each commit has 200 MB."""
    fields = [Field("text", "string")]
    DatasetTable.of(dataset).create(fields)
    names = [*(field.name for field in base_columns()), "text", PARTITION]
    written = 0
    for part in _parts(sizes):
        rows = len(part)
        now = pa.array(np.full(rows, 1_780_000_000_000_000), pa.int64()).cast(pa.timestamp("us", "UTC"))
        values = {
            "id": pa.array([f"1780000000000-{written + n:07}-00000" for n in range(rows)]),
            "project_id": pa.array(np.full(rows, dataset.project_id)),
            "dataset_id": pa.array(np.full(rows, dataset.pk)),
            "timestamp": now,
            "ingested_at": now,
            "context": pa.array(["{}"] * rows),
            "__traceId": pa.array(["t"] * rows),
            "__schemaVersion": pa.array(np.ones(rows, np.int32)),
            "text": pa.array([f"{written + n:08}" * (size // 8) for n, size in enumerate(part)]),
            PARTITION: now.cast(pa.timestamp("us")).cast(pa.date32()),
        }
        write_deltalake(DatasetTable.of(dataset).uri, pa.table({name: values[name] for name in names}), mode="append")
        written += rows


def _parts(sizes: list[int]) -> Iterator[list[int]]:
    part: list[int] = []
    for size in sizes:
        part.append(size)
        if sum(part) > 200 * MB:
            yield part
            part = []
    if part:
        yield part


def peak(*words: object) -> int:
    """Run a management command that succeeds. Return its peak memory in bytes."""
    command = [sys.executable, "manage.py", *map(str, words)]
    most = 0
    with subprocess.Popen(command, cwd=BASE_DIR, env=environment()) as process:
        # The process reports its own peak. `wait4` would also count memory of the parent process.
        while process.poll() is None:
            found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            most = max(most, int(found[1]) * 1024 if found else 0)
            time.sleep(0.01)
    assert process.returncode == 0
    return most


@pytest.mark.parametrize("sizes", [[313_000] * 6000, [10 * MB] * 180], ids=["313 KB", "10 MB"])
def test_an_export_of_large_records_takes_little_memory(dataset: Dataset, tmp_path: Path, sizes: list[int]) -> None:
    fill(dataset, sizes)
    for form in ("ndjson", "csv", "parquet"):
        out = tmp_path / "out"
        used = peak("records", dataset.pk, "--format", form, "-o", out)
        assert used < MAX_PEAK_BYTES, f"{form}: {used // MB} MB"
        if form == "parquet":
            assert pyarrow.parquet.read_metadata(out).num_rows == len(sizes)
        else:
            assert out.stat().st_size > sum(sizes)
        out.unlink()
    assert peak("records", dataset.pk) < MAX_PEAK_BYTES
