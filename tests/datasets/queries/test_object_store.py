"""Queries of tables in an object store, with an S3 server that the tests start."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx
import pytest
from django.conf import settings

from datasets.queries import engine
from datasets.queries.execution.snapshot import Location
from datasets.schemas.fields import Field
from datasets.tables.storage import storage_options
from tests.datasets.queries.conftest import Store
from tests.support.servers.object_store import ObjectStore

FIELDS = [Field("x", "integer"), Field("text", "string")]


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    server = ObjectStore()
    yield server
    server.end()


@pytest.fixture
def bucket(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A table in a new bucket."""
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = uuid.uuid4().hex
    httpx.put(f"{server.url}/{name}").raise_for_status()
    monkeypatch.setattr(settings, "STORAGE_URL", f"s3://{name}/some/prefix")
    return Store()


def test_a_table_in_an_object_store_is_queried_page_by_page(bucket: Store) -> None:
    bucket.add(FIELDS, *({"x": number, "text": "a"} for number in range(3)))
    later = [*FIELDS, Field("later", "decimal(10,2)")]
    bucket.add(later, *({"x": number, "text": "b", "later": None} for number in range(3, 5)))
    location = Location(bucket.table.uri, storage_options())
    select = {"select": [{"field": "x"}, {"field": "later"}], "orderBy": [{"field": "x"}]}
    first = engine.run(bucket.query(**select, limit=3), location)
    assert first.rows["x"].to_pylist() == [0, 1, 2]
    assert first.stats.files_scanned == 2
    second = engine.run(bucket.query(**select, limit=3, cursor=first.cursor), location)
    assert second.rows["x"].to_pylist() == [3, 4]
    grouped = bucket.query(select=[{"field": "text"}, {"aggregate": "sum", "field": "x"}], groupBy=["text"])
    assert engine.run(grouped, location).rows.to_pylist() == [{"text": "a", "sum_x": 3}, {"text": "b", "sum_x": 7}]
    one_file = bucket.query(where=[{"field": "x", "op": ">=", "value": 3}])
    assert engine.run(one_file, location).stats.files_scanned == 1
