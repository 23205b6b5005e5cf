"""Each row names the schema version under which its record was accepted."""

import json
import shutil

import deltalake
import pyarrow as pa
from django.test import Client
from django.urls import reverse

from config.common import redis
from datasets import services
from datasets.models import Dataset, Project, SchemaVersion
from datasets.schemas.fields import Field
from datasets.tables import exports, layout, records
from datasets.tables.table import DatasetTable
from ingest.storing.drain import drain
from tests.conftest import FIELDS, RECORD, Api, record, stored
from tests.support.entries import table_of

WIDER = [*FIELDS, Field("source", "string")]
OLD_NAME = Field("__schemaVersion", "string")


def versions(dataset: Dataset) -> list[object]:
    return [row["__schemaVersion"] for row in stored(dataset)]


def test_row_has_the_number_of_its_version(api: Api, dataset: Dataset) -> None:
    api.one(record())
    services.save_dataset(dataset, fields=WIDER)
    api.batch([record(source="web")] * 2)
    services.save_dataset(dataset, fields=FIELDS)
    api.one(record())
    assert versions(dataset) == [1, 2, 2, 3]
    assert pa.schema(table_of(dataset).schema()).field("__schemaVersion").type == pa.int32()


def test_rows_of_an_older_table_are_null_there(api: Api, dataset: Dataset) -> None:
    api.one(record())
    drain(dataset.pk)
    old = table_of(dataset).to_pyarrow_table().drop_columns("__schemaVersion")
    table = DatasetTable.of(dataset)
    redis.client().flushall()  # the table below has no watermark
    schema = pa.schema([field for field in layout.table_schema(FIELDS) if field.name != "__schemaVersion"])
    _replace(table, schema, old)
    api.one(record())
    assert versions(dataset) == [None, 1]
    exported = b"".join(exports.ndjson(records.batches(dataset)))
    assert {json.loads(line)["__schemaVersion"] for line in exported.splitlines()} == {None, 1}


def _replace(table: DatasetTable, schema: pa.Schema, rows: pa.Table) -> None:
    """Replace the table by a table with these rows and without the column, as an earlier release made it."""
    shutil.rmtree(table.uri)
    configuration = {**layout.configuration(), **table._owner()}
    deltalake.DeltaTable.create(
        table.uri, schema, partition_by=[layout.PARTITION], configuration=configuration, raise_if_key_not_exists=False
    )
    deltalake.write_deltalake(table.uri, rows, mode="append")


def test_export_to_send_again_has_no_schema_version(api: Api, dataset: Dataset) -> None:
    api.one(record())
    drain(dataset.pk)
    lines = b"".join(exports.ndjson_to_send(records.batches(dataset)))
    assert json.loads(lines).keys() == RECORD.keys()
    assert api.batch(lines, content_type="application/x-ndjson").status_code == 202


def test_field_of_this_name_from_before_it_was_reserved_keeps_its_column(
    api: Api, project: Project, admin_client: Client
) -> None:
    dataset = services.create_dataset(project=project, name="Old", fields=FIELDS)
    fields = [field.as_json() for field in (*FIELDS, OLD_NAME)]
    SchemaVersion.objects.create(dataset=dataset, number=2, fields=fields)
    old = Api(api.token, dataset)
    assert old.one(record(__schemaVersion="theirs")).status_code == 202
    assert versions(dataset) == ["theirs"]
    path = reverse("admin:datasets_dataset_change", args=(dataset.pk,))
    wider = json.dumps({"fields": [*fields, {"name": "source", "type": "string"}]})
    form = {"name": dataset.name, "slug": dataset.slug, "description": "", "schema": wider}
    assert admin_client.post(path, form).status_code == 302
    assert old.one(record(__schemaVersion="theirs too", source="web")).status_code == 202
    services.save_dataset(dataset, fields=FIELDS)
    assert old.one(record()).status_code == 202
    assert versions(dataset) == ["theirs", "theirs too", None]
    sent_again = b"".join(exports.ndjson_to_send(records.batches(dataset)))
    assert b"theirs too" in sent_again
