"""A table whose schema has changed, and the queries that a client would send."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from django.conf import settings

from datasets.queries.engine import Result, run
from datasets.queries.execution.snapshot import Location
from datasets.queries.language import parse
from datasets.queries.query import Query
from datasets.schemas.fields import Field
from datasets.tables.layout import PARTITION, table_schema
from datasets.tables.table import DatasetTable

GENERATION = "0a1b2c3d"
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
FIRST_FIELDS = [
    Field("country", "string"),
    Field("plan", "string", optional=True),
    Field("amount", "number"),
    Field("active", "boolean"),
    Field("signup_at", "timestamp"),
]
# The fields of the second version.
FIELDS = [
    *FIRST_FIELDS,
    Field("quantity", "integer", optional=True),
    Field("price", "decimal(10,2)", optional=True),
    Field("day", "date", optional=True),
    Field("order", "uuid", optional=True),
    Field("details", "json", optional=True),
    Field("state", "enum", optional=True, values=("open", "paid")),
    Field("tags", "string[]", optional=True),
    Field("sizes", "integer[]", optional=True),
    Field("visits", "timestamp[]", optional=True),
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class Store:
    """A table to which tests add rows as a drain does."""

    def __init__(self) -> None:
        self.table = DatasetTable(7, 13)
        self.fields: list[Field] = []
        self._stored = 0

    def add(self, fields: list[Field], *rows: dict[str, Any], day: date = date(2026, 6, 15)) -> None:
        """Commit rows. A column that a row leaves out is null, or has a default if every table has this column."""
        if not self.table.refresh():
            self.table.create(fields)
        self.fields = fields
        schema = table_schema(fields)
        whole = []
        for each in rows:
            self._stored += 1
            defaults = {
                "id": f"1781524800000-0-{self._stored:06}",
                "project_id": 7,
                "dataset_id": 13,
                "timestamp": NOW,
                "ingested_at": NOW,
                "context": "{}",
                "__traceId": f"trace-{self._stored}",
                PARTITION: day,
            }
            whole.append({**defaults, **each})
        table = pa.Table.from_pylist(whole, schema=schema)
        self.table.append(table, generation=GENERATION, watermark=self._stored, stored=self._stored)
        self.table.refresh()

    @property
    def location(self) -> Location:
        return Location(self.table.uri)

    def query(self, **body: Any) -> Query:
        return parse(body, self.fields, now=NOW)

    def run(self, **body: Any) -> Result:
        return run(self.query(**body), self.location)

    def rows(self, **body: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run(**body).rows.to_pylist()
        return found

    def values(self, name: str, **body: Any) -> list[Any]:
        """Return one column of the records that a query finds, in the order of their acceptance."""
        body = {"select": [{"field": name}], "orderBy": [{"field": "id"}], **body}
        return [row[name] for row in self.rows(**body)]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(scope="session")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three rows of the first version, then three of the second, in two files. Tests only read it."""
    before, settings.STORAGE_URL = settings.STORAGE_URL, str(tmp_path_factory.mktemp("orders"))
    store = Store()
    settings.STORAGE_URL = before
    first = {"active": True, "signup_at": at("2026-06-01T08:00:00+00:00")}
    store.add(
        FIRST_FIELDS,
        {**first, "country": "RO", "plan": "pro", "amount": 42.5, "timestamp": at("2026-06-10T10:58:00+00:00")},
        {**first, "country": "DE", "plan": "free", "amount": 7.0, "timestamp": at("2026-06-11T10:00:00+00:00")},
        {**first, "country": "RO", "plan": None, "amount": -1.5, "timestamp": at("2026-06-12T10:00:00+00:00")},
    )
    second = {**first, "active": False, "country": "FR", "amount": 0.0, "timestamp": at("2026-06-13T10:00:00+00:00")}
    store.add(
        FIELDS,
        {
            **second,
            "quantity": 3,
            "price": Decimal("12.50"),
            "day": date(2026, 6, 13),
            "order": "F81D4FAE-7dec-11d0-a765-00a0c91e6bf6",
            "details": '{"a": 1}',
            "state": "open",
            "tags": ["new", "50%"],
            "sizes": [1, 2],
            "visits": [at("2026-06-13T10:00:00+00:00")],
        },
        {**second, "plan": "pro", "quantity": 2**62, "price": Decimal("0.10"), "state": "paid", "tags": []},
        {**second, "plan": "50% off_"},
    )
    return store
