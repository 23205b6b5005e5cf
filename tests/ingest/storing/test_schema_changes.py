"""The table of docs/schemas.md: the effects of each schema change on clients, queued records, old rows and readers."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder
from django.core.exceptions import ValidationError

from config.common import clock
from datasets import services
from datasets.models import Project
from datasets.schemas.declarations import parse_fields
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field
from tests.conftest import Api, stored
from tests.support.documents import table
from tests.support.entries import table_of

BASE: dict[str, Any] = {"timestamp": "2026-06-10T10:58:00Z", "context": {}}
OTHER_TYPE = "add a field with a new name instead."


class Change(NamedTuple):
    """Successive schema versions, and what happens to records.

    Attributes:
        versions: The fields of each version. A record is queued under each version except the last.
        records: Each version's record.
        refused: Why the last version cannot be published, or "" if it can.
        old: The error of a client that still sends the first version's record under the last version, or "".
        rows: The values of the column `x`, in order: those of each version's record, and of the old client's last one.
    """

    versions: list[dict[str, Any]]
    records: list[dict[str, Any]]
    refused: str = ""
    old: str = ""
    rows: list[Any] = []  # noqa: RUF012


def enum(*values: str) -> dict[str, Any]:
    return {"type": "enum", "values": list(values)}


def kept(before: str, after: str) -> str:
    return f"“x” is stored as {before} and cannot become {after}: {OTHER_TYPE}"


# The first cell of each row of the table -> the changes that the row describes.
CHANGES: dict[str, list[Change]] = {
    "Add an optional field": [
        Change([{}, {"x": "integer?"}], [{}, {"x": 2**60 + 1}], rows=[None, 2**60 + 1, None]),
        Change([{}, {"x": "decimal(38,2)?"}], [{}, {"x": "0.01"}], rows=[None, "0.01", None]),
        Change([{}, {"x": "timestamp[]?"}], [{}, {"x": []}], rows=[None, [], None]),
    ],
    "Add a required field": [
        Change([{}, {"x": "string"}], [{}, {"x": "a"}], old="Missing field: x", rows=[None, "a"]),
    ],
    "Remove a field": [
        Change([{"x": "number"}, {}], [{"x": 1.5}, {}], old="Extra field: x", rows=[1.5, None]),
    ],
    "Add a removed field again": [
        Change([{"x": "date"}, {}, {"x": "date"}], [{"x": "2026-06-10"}, {}, {"x": "0001-01-01"}],
               rows=["2026-06-10", None, "0001-01-01", "2026-06-10"]),
        Change([{"x": "date"}, {}, {"x": "string"}], [{"x": "2026-06-10"}, {}], refused=kept("date", "string")),
    ],
    "Make a required field optional": [
        Change([{"x": "string[]"}, {"x": "string[]?"}], [{"x": ["a"]}, {}], rows=[["a"], None, ["a"]]),
    ],
    "Make an optional field required": [
        Change([{"x": "number?"}, {"x": "number"}], [{}], refused="“x” is optional, so clients may leave it out. It "
               "can become required only with a grace period, in which the previous version stays valid."),
    ],
    "Change a type": [
        Change([{"x": "string"}, {"x": "timestamp"}], [{"x": "a"}], refused=kept("string", "timestamp")),
        Change([{"x": "string"}, {"x": "string[]"}], [{"x": "a"}], refused=kept("string", "string[]")),
        Change([{"x": "string"}, {"x": enum("a")}], [{"x": "a"}], refused=kept("string", "enum")),
        Change([{"x": "decimal(5,2)"}, {"x": "decimal(9,2)"}], [{"x": 1}],
               refused=kept("decimal(5,2)", "decimal(9,2)")),
    ],
    "Change an integer to a number": [
        Change([{"x": "integer"}, {"x": "number"}], [{"x": 1}], refused=kept("integer", "number")),
    ],
    "Change a number to an integer": [
        Change([{"x": "number"}, {"x": "integer"}], [{"x": 1}], refused=kept("number", "integer")),
    ],
    "Add values to an enum": [
        Change([{"x": enum("a")}, {"x": enum("a", "b")}], [{"x": "a"}, {"x": "b"}], rows=["a", "b", "a"]),
    ],
    "Remove values from an enum": [
        Change([{"x": enum("a", "b")}, {"x": enum("b")}], [{"x": "a"}, {"x": "b"}], old="Invalid enum field: x",
               rows=["a", "b"]),
    ],
    "Change a constraint": [
        Change([{"x": "number"}, {"x": {"type": "number", "minimum": 0}}], [{"x": -1}, {"x": 1}],
               old="Invalid number field: x", rows=[-1, 1]),
        Change([{"x": {"type": "string", "max_length": 1}}, {"x": "string"}], [{"x": "a"}, {"x": "bc"}],
               rows=["a", "bc", "a"]),
    ],
}  # fmt: skip


def by_pyarrow(delta: DeltaTable) -> pa.Table:
    return delta.to_pyarrow_table()


def by_delta_rs(delta: DeltaTable) -> pa.Table:
    found = QueryBuilder().register("records", delta).execute("SELECT * FROM records")
    return pa.RecordBatchReader.from_stream(found).read_all()


def by_duckdb(delta: DeltaTable) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("records", delta.to_pyarrow_dataset())
        return connection.sql("SELECT * FROM records").to_arrow_table()


def by_polars(delta: DeltaTable) -> pa.Table:
    return pl.read_delta(delta.table_uri).to_arrow()


def by_pandas(delta: DeltaTable) -> pa.Table:
    return pa.Table.from_pandas(delta.to_pandas(types_mapper=pd.ArrowDtype), preserve_index=False)


READERS: list[Callable[[DeltaTable], pa.Table]] = [by_pyarrow, by_delta_rs, by_duckdb, by_polars, by_pandas]


def rows(read: Callable[[DeltaTable], pa.Table], delta: DeltaTable) -> list[dict[str, Any]]:
    return sorted(read(delta).to_pylist(), key=lambda row: str(row["id"]))


def as_sent(value: Any) -> Any:
    """Convert a value of the table to the form that it has in records."""
    return value if value is None or isinstance(value, int | float | str | list) else str(value)


def test_every_change_of_the_table_is_tried() -> None:
    assert [row[0] for row in table("changes")] == list(CHANGES)


@pytest.mark.parametrize(
    "change", [each for some in CHANGES.values() for each in some], ids=lambda change: str(change.versions)
)
def test_change_has_the_documented_effect(api: Api, project: Project, change: Change) -> None:
    first, *others, last = [parse_fields({"fields": version}) for version in change.versions]
    api.dataset = dataset = services.create_dataset(project=project, name="Changes", fields=first)
    records = [BASE | each for each in change.records]
    assert api.one(records[0]).status_code == 202
    for fields, record in zip(others, records[1:], strict=False):
        services.save_dataset(dataset, fields=fields)
        assert api.one(record).status_code == 202
    if change.refused:
        with pytest.raises(ValidationError) as refusal:
            services.save_dataset(dataset, fields=last)
        assert refusal.value.messages == [change.refused]
        assert api.one(records[0 if not others else -1]).status_code == 202, "the previous version is still in force"
        return
    services.save_dataset(dataset, fields=last)
    assert api.one(records[-1]).status_code == 202
    assert api.one(records[0]).json().get("error", "") == change.old
    stored(dataset)  # all records of all versions were queued until now
    for read in READERS:
        assert [as_sent(row["x"]) for row in rows(read, table_of(dataset))] == change.rows, read.__name__


def test_optional_field_becomes_required_with_a_grace_period(api: Api, project: Project) -> None:
    optional, required = (parse_fields({"fields": {"x": each}}) for each in ("number?", "number"))
    api.dataset = dataset = services.create_dataset(project=project, name="Changes", fields=optional)
    assert api.one(BASE).status_code == 202
    services.save_dataset(dataset, fields=required, previous_valid_until=clock.now() + timedelta(hours=1))
    assert api.one(BASE | {"x": 1}).status_code == 202
    assert api.one(BASE).status_code == 202, "the previous version is valid"
    assert [row["x"] for row in stored(dataset)] == [None, 1, None]


EVERY_TYPE = ["string", "number", "boolean", "timestamp", "integer", "decimal(38,10)", "date", "uuid", "json", "enum"]
EVERY_TYPE += ["string[]", "number[]", "integer[]", "timestamp[]"]
LARGE = {
    "number": 1.7976931348623157e308,
    "timestamp": "9999-12-31T23:59:59.999999Z",
    "integer": 2**63 - 1,
    "decimal(38,10)": "-9999999999999999999999999999.9999999999",
    "date": "0001-01-01",
    "number[]": [],
    "timestamp[]": ["0001-01-01T00:00:00Z"] * 2,
}


def test_every_reader_reads_every_type_and_null(api: Api, project: Project) -> None:
    """Small and large values, arrays with and without elements, and columns that began with nulls only."""
    names = {kind: f"f{n}" for n, kind in enumerate(EVERY_TYPE)}
    values = {"enum": ("a", "b")}
    fields = [Field(name, kind, optional=True, values=values.get(kind, ())) for kind, name in names.items()]
    api.dataset = dataset = services.create_dataset(project=project, name="Every", fields=fields)
    full = BASE | {field.name: type_of(field).example for field in fields}
    for batch in ([BASE], [full, BASE], [full | {names[kind]: value for kind, value in LARGE.items()}]):
        assert api.batch(batch).status_code == 202
        expected = stored(dataset)
    assert expected[3]["f4"] == 2**63 - 1
    for when in ("as written", "after compaction"):
        for read in READERS:
            found = [{name: row[name] for name in names.values()} for row in rows(read, table_of(dataset))]
            assert found == [{name: row[name] for name in names.values()} for row in expected], (read.__name__, when)
        table_of(dataset).optimize.compact()
