"""A search of a million records, with a chart, takes less than a second of processor time on an idle machine."""

import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from datasets.models import Dataset
from datasets.queries.processes import pool
from datasets.tables.layout import PARTITION, base_columns
from datasets.tables.table import DatasetTable
from tests.conftest import FIELDS

pytestmark = pytest.mark.long

_ROWS, _FILES = 1_000_000, 10
_MAX_CPU_SECONDS = 2.0  # twice the promised time, because a busy processor is slower
_TICKS = 100  # /proc/<pid>/stat counts processor time in hundredths of a second


def fill(dataset: Dataset) -> None:
    """Write a million records of a month, without the queue."""
    DatasetTable.of(dataset).create(FIELDS)
    dice = np.random.default_rng(7)
    count = _ROWS // _FILES
    names = [*(field.name for field in base_columns()), *(field.name for field in FIELDS), PARTITION]
    for part in range(_FILES):
        at = pa.array(1_780_000_000_000_000 + (np.arange(count) + part * count) * 2_592_000)
        when = at.cast(pa.timestamp("us", "UTC"))
        digits = pc.cast(pc.divide(at, 1000), pa.string())
        values = {
            "id": pc.binary_join_element_wise(digits, "-0-00000", ""),
            "project_id": pa.array(np.full(count, dataset.project_id)),
            "dataset_id": pa.array(np.full(count, dataset.pk)),
            **dict.fromkeys(("timestamp", "ingested_at", "signup_at"), when),
            "context": pa.array(['{"source": "shop"}']).take(pa.array(np.zeros(count, int))),
            "__traceId": digits,
            "__schemaVersion": pa.array(np.ones(count, np.int32)),
            **dict.fromkeys(
                ("country", "plan"), pa.array(["RO", "DE", "FR"]).take(pa.array(dice.integers(0, 3, count)))
            ),
            "amount": pa.array(dice.random(count) * 100),
            "active": pa.array(dice.integers(0, 2, count).astype(bool)),
            PARTITION: when.cast(pa.timestamp("us")).cast(pa.date32()),
        }
        table = pa.table({name: values[name] for name in names})
        write_deltalake(DatasetTable.of(dataset).uri, table, mode="append")
    Dataset.objects.filter(pk=dataset.pk).update(has_table=True)


def seconds_of(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def test_a_million_records_are_filtered_and_charted(
    client: Client, owner: User, dataset: Dataset, settings: Settings
) -> None:
    settings.QUERY_TIMEOUT_SECONDS = 60.0
    fill(dataset)
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client.force_login(User.objects.get(pk=owner.pk))
    path = reverse("admin:ingest_datasetrecords_change", args=(dataset.pk,))
    client.get(path, {"field": "plan", "op": "=", "value": "nothing"})  # starts the query process
    (pid,) = pool.POOL.pids()
    began, own, others = time.perf_counter(), time.thread_time(), seconds_of(pid)
    page = client.get(path, {"field": "amount", "op": ">=", "value": "50", "chart": "day"}).content.decode()
    own, others = time.thread_time() - own, seconds_of(pid) - others
    print(f"{own:.2f} + {others:.2f} s of processor time, {time.perf_counter() - began:.2f} s in all")
    assert re.search('id="count">(499|500),[0-9]{3} records', page)
    assert page.count("2026-06-") > 50
    assert own + others < _MAX_CPU_SECONDS
