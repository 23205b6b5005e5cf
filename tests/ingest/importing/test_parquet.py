"""`manage.py import` of Parquet: values become JSON without any loss."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_django import Settings

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from tests.conftest import stored
from tests.ingest.importing.importing import import_file, refused

NOW = datetime(2026, 6, 10, 10, 58, 0, 123456, tzinfo=UTC)
UTC_MICROSECONDS = pa.timestamp("us", "UTC")


def typed(project: Project, kind: str) -> Dataset:
    return services.create_dataset(project=project, name=kind, fields=[Field("value", kind)])


def write(path: Path, values: pa.Array, **more: pa.Array) -> Path:
    stamps = more.pop("timestamp", pa.array([NOW] * len(values), UTC_MICROSECONDS))
    pq.write_table(pa.table({"timestamp": stamps, "value": values, **more}), path)
    return path


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("number", pa.array([1, -(2**31)], pa.int32()), [1.0, -(2.0**31)]),
        ("number", pa.array([0.1, 1e300]), [0.1, 1e300]),
        ("number", pa.array([0.1], pa.float32()), [0.10000000149011612]),
        ("number", pa.array([Decimal("12.50"), Decimal("-0.01")]), [12.5, -0.01]),
        ("boolean", pa.array([True, False]), [True, False]),
        ("string", pa.array(["", 'a "b"\n', "1"]), ["", 'a "b"\n', "1"]),
        ("string", pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        ("string", pa.array(["a"], pa.large_string()), ["a"]),
        ("string", pa.array([Decimal("12.50")]), ["12.50"]),
        ("string", pa.array([Decimal("1E+3")], pa.decimal128(5, 0)), ["1000"]),
        ("string", pa.array([date(2026, 6, 10)]), ["2026-06-10"]),
        ("string", pa.array([time(10, 58)], pa.time32("s")), ["10:58:00.000"]),
        ("timestamp", pa.array([NOW], UTC_MICROSECONDS), [NOW]),
        ("timestamp", pa.array([NOW], pa.timestamp("us", "Asia/Tokyo")), [NOW]),
        ("timestamp", pa.array([1], pa.timestamp("s", "+02:00")), [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]),
        (
            "timestamp",
            pa.array([1_001_000], pa.timestamp("ns", "UTC")),
            [datetime(1970, 1, 1, 0, 0, 0, 1001, tzinfo=UTC)],
        ),
    ],
)
def test_values_are_stored_exactly(
    project: Project, tmp_path: Path, kind: str, values: pa.Array, expected: list[Any]
) -> None:
    dataset = typed(project, kind)
    done = import_file(dataset, write(tmp_path / "a.parquet", values))
    assert (done.code, done.err) == (0, "The file has no context: each record gets an empty one.\n")
    rows = stored(dataset)
    assert [row["value"] for row in rows] == expected
    assert {row["timestamp"] for row in rows} == {NOW}


@pytest.mark.parametrize(
    ("kind", "values", "error"),
    [
        ("number", pa.array(["12.5"]), "Invalid number field: value"),
        ("number", pa.array([float("nan")]), "Invalid JSON body"),
        ("number", pa.array([float("inf")]), "Invalid JSON body"),
        ("number", pa.array([True]), "Invalid number field: value"),
        ("number", pa.array([None], pa.float64()), "Missing field: value"),
        ("number", pa.array([None]), "Missing field: value"),
        ("boolean", pa.array([1]), "Invalid boolean field: value"),
        ("string", pa.array([1]), "Invalid string field: value"),
        ("string", pa.array([[1]]), "Invalid string field: value"),
        ("timestamp", pa.array([date(2026, 6, 10)]), "Invalid timestamp field: value"),
        ("timestamp", pa.array([10**18], pa.timestamp("us", "UTC")), "Invalid timestamp field: value"),
    ],
)
def test_a_value_of_another_type_is_refused(
    project: Project, tmp_path: Path, kind: str, values: pa.Array, error: str
) -> None:
    dataset = typed(project, kind)
    path = write(tmp_path / "a.parquet", values)
    assert import_file(dataset, path).code == 3
    (found,) = refused(path)
    assert (found["row"], found["error"]) == (1, error)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([b"x"]), "“value” (binary)"),
        (pa.array([NOW.replace(tzinfo=None)]), "“value” (times without a zone: convert them to UTC, with a zone)"),
        (pa.array([[b"x"]]), "“value” (binary)"),
        (pa.array([{"a": NOW.replace(tzinfo=None)}]), "“value” (times without a zone"),
        (pa.array([[1]], pa.list_(pa.timestamp("ns", "UTC"))), "“value” (nested times with nanoseconds)"),
        (pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())), "“value” (a map whose keys are not texts)"),
        (pa.array([1], pa.duration("s")), "“value” (duration[s])"),
        (pa.array([b"x"]).dictionary_encode(), "“value” (binary)"),
    ],
)
def test_a_type_without_an_exact_form_is_named(project: Project, tmp_path: Path, values: pa.Array, said: str) -> None:
    done = import_file(typed(project, "string"), write(tmp_path / "a.parquet", values))
    assert (done.code, done.out) == (1, "")
    assert f"These columns have no exact form in JSON: {said}" in done.err


def test_naive_timestamps_are_named(project: Project, tmp_path: Path) -> None:
    naive = pa.array([NOW.replace(tzinfo=None)])
    done = import_file(typed(project, "string"), write(tmp_path / "a.parquet", pa.array(["a"]), timestamp=naive))
    assert "“timestamp” (times without a zone" in done.err


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (pa.array(['{"a": 1}']), '{"a": 1}'),
        (
            pa.array([{"a": [Decimal("1.50"), None], "b": {"c": NOW, "d": date(2026, 6, 10)}}]),
            '{"a":["1.50",null],"b":{"c":"2026-06-10T10:58:00.123456Z","d":"2026-06-10"}}',
        ),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), '{"k":1}'),
    ],
)
def test_context_may_be_a_text_a_struct_or_a_map(
    project: Project, tmp_path: Path, context: pa.Array, expected: str
) -> None:
    dataset = typed(project, "string")
    assert import_file(dataset, write(tmp_path / "a.parquet", pa.array(["a"]), context=context)).code == 0
    assert stored(dataset)[0]["context"] == expected


def test_a_nested_number_that_is_not_finite_is_refused(project: Project, tmp_path: Path) -> None:
    dataset = typed(project, "string")
    path = write(tmp_path / "a.parquet", pa.array(["a"]), context=pa.array([{"a": [float("nan")]}]))
    assert import_file(dataset, path).code == 3
    assert "NaN" in refused(path)[0]["errors"][0]["detail"]


def test_a_resumed_import_begins_in_the_right_row_group(project: Project, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 10
    dataset = typed(project, "number")
    path = tmp_path / "a.parquet"
    table = pa.table({"timestamp": pa.array([NOW] * 100, UTC_MICROSECONDS), "value": pa.array(range(100))})
    pq.write_table(table, path, row_group_size=7)
    import_file(dataset, path)
    place = path.with_name(f"a.parquet.import-{dataset.pk}")
    lines = place.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        place.write_bytes(b"".join(lines[:kept]))
        assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 100 records of 100 rows.\n"
    assert [row["value"] for row in stored(dataset)] == [*range(100)]


def test_what_is_not_parquet_is_explained(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 is not enough")
    done = import_file(typed(project, "string"), path)
    assert done.code == 1
    assert "The file cannot be read as Parquet: " in done.err
