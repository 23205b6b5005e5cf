"""The product and the oracle agree on status, text and every problem, and on what is stored."""

import json
import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, seed, settings
from pytest_django import Settings

from config.common.errors import ApiError
from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.declarations import parse_fields
from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema
from datasets.tables.table import DatasetTable
from ingest.queue.formats import Payload
from ingest.queue.stream import Entry
from ingest.storing.conversion import to_table
from ingest.storing.drain import drain
from ingest.validation.payloads import validate_array, validate_lines, validate_one
from tests.conftest import Api
from tests.support.contract import oracle
from tests.support.contract.field_types import VALUES
from tests.support.contract.hostile import MAX_RECORDS, NEW_TYPES, Question, questions
from tests.support.entries import table_of

# The long run sets these; see `oracle.main`.
EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "1600"))
SEED = int(os.environ.get("ORACLE_SEED", "1"))
# Hypothesis remembers its examples. In one run of 200,000 examples, they would need too much memory.
_CHUNK = 2500

VALIDATORS: dict[str, Callable[[CompiledSchema, bytes], Payload]] = {
    "object": validate_one,
    "array": validate_array,
    "lines": validate_lines,
}
# Schemas of tables that are really written and read.
STORED: tuple[dict[str, str], ...] = (
    {},
    {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"},
    {"s": "string", "n": "number", "t": "timestamp"},
    {f"f{n}": ("string", "number", "boolean", "timestamp")[n % 4] for n in range(40)},
    {f"f{n}": name for n, name in enumerate(NEW_TYPES) if n % 3 == 0},
    {f"f{n}": name for n, name in enumerate(NEW_TYPES) if n % 3 == 1},
    {f"f{n}": name for n, name in enumerate(NEW_TYPES) if n % 3 == 2},
)


@pytest.fixture(autouse=True)
def small_batches(settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = MAX_RECORDS


def ask(
    examples: int, first_seed: int, check: Callable[[Question], None], fields: dict[str, str] | None = None
) -> None:
    """Run `examples` examples in chunks. Each chunk has the next seed."""
    for number in range(math.ceil(examples / _CHUNK)):
        some = min(_CHUNK, examples - number * _CHUNK)
        asking = settings(
            max_examples=some,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        seed(first_seed * 1_000_000 + number)(asking(given(questions(fields))(check)))()


def declared(fields: dict[str, str]) -> list[Field]:
    values = {"values": list(VALUES)}
    said = {name: {"type": kind, **(values if kind.startswith("enum") else {})} for name, kind in fields.items()}
    return parse_fields({"fields": said})


def compiled(fields: dict[str, str]) -> CompiledSchema:
    return CompiledSchema(1, declared(fields))


def product(schema: CompiledSchema, question: Question) -> tuple[oracle.Answer, Payload | None]:
    """Return the product's answer, as a client reads it, and the payload that it would queue."""
    try:
        payload = VALIDATORS[question.form](schema, question.body)
    except ApiError as refusal:
        return oracle.Answer(refusal.status, json.loads(json.dumps(refusal.body()))), None
    return oracle.Answer(202, {"count": payload.count}), payload


def same(said: oracle.Answer, expected: list[oracle.Answer]) -> bool:
    """Compare the answers, but without `detail` and the index in invalid JSON, which test_details.py compares."""
    body = {name: value for name, value in said.body.items() if name != "detail"}
    if "errors" in body:
        body["errors"] = [{name: each[name] for name in each if name != "detail"} for each in body["errors"]]
    if body.get("code") == "invalid_json" and not any("index" in each.body for each in expected):
        body.pop("index", None)
    return any((said.status, body) == (each.status, each.body) for each in expected)


def values(table: pa.Table, fields: dict[str, str]) -> list[dict[str, Any]]:
    """Convert rows to the form of the oracle: timestamps become microseconds."""
    columns = {}
    for name in ("timestamp", "context", *fields):
        column = table[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        elif pa.types.is_list(column.type) and pa.types.is_timestamp(column.type.value_type):
            column = column.cast(pa.list_(pa.int64()))
        columns[name] = column.to_pylist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def assert_equal(rows: list[dict[str, Any]], expected: list[dict[str, Any]], question: object = "") -> None:
    """Assert that values and types are equal. `==` ignores the type: 1 == 1.0 == True."""
    assert rows == expected, question
    kinds = [[type(value) for value in row.values()] for row in rows]
    assert kinds == [[type(value) for value in row.values()] for row in expected], question


def as_table(schema: CompiledSchema, payloads: list[Payload]) -> pa.Table:
    """Return the table that a drain makes from successive payloads."""
    entries = [
        Entry(
            f"{1_790_000_000_000 + n}-0",
            payload.body,
            payload.format,
            payload.count,
            1,
            "t",
            f"{1_790_000_000_000 + n}-0",
            len(payload.body),
        )
        for n, payload in enumerate(payloads)
    ]
    return to_table(schema, entries, project_id=1, dataset_id=1, number=1)


def test_product_and_oracle_agree_on_every_body_and_on_every_row() -> None:
    """Call the validation directly, and make columns as a drain does."""
    tally: Counter[str] = Counter()
    waiting: dict[int, list[tuple[Payload, list[dict[str, Any]]]]] = defaultdict(list)
    schemas = [compiled(fields) for fields in STORED]
    began = time.monotonic()

    def check(question: Question) -> None:
        in_table = STORED.index(question.fields) if question.fields in STORED else None
        schema = compiled(question.fields) if in_table is None else schemas[in_table]
        said, payload = product(schema, question)
        expected = oracle.answers(question.fields, question.body, question.form, MAX_RECORDS)
        assert same(said, expected), (said, expected)
        tally["cases"] += 1
        tally[f"{said.status} {said.body.get('code', 'accepted')}"] += 1
        if payload is None:
            return
        tally["records"] += payload.count
        if in_table is None:
            assert_equal(values(as_table(schema, [payload]), question.fields), expected[0].rows, question)
        else:
            waiting[in_table].append((payload, expected[0].rows))

    ask(EXAMPLES // 2, SEED, check)
    for fields in STORED:
        ask(math.ceil(EXAMPLES / 2 / len(STORED)), SEED, check, fields)
    for number, accepted in waiting.items():
        written = as_table(schemas[number], [payload for payload, _ in accepted])
        table = DatasetTable(1, number)
        table.create(schemas[number].fields)
        table.append(written, generation="oracle", watermark=1, stored=written.num_rows)
        read = DeltaTable(table.uri).to_pyarrow_table().sort_by("id")
        assert_equal(values(read, STORED[number]), [row for _, rows in accepted for row in rows])
        tally["rows read back"] += read.num_rows
    print(f"\noracle: {dict(sorted(tally.items()))} in {time.monotonic() - began:.0f} s")
    assert tally["cases"] >= EXAMPLES
    assert {"202 accepted", "413 too_many_records", "400 invalid_json", "400 invalid_batch"} <= set(tally)


@pytest.mark.parametrize(
    "fields",
    [*STORED[:3], *STORED[4:]],
    ids=["no fields", "the example", "three fields", "new", "new too", "the rest of the new"],
)
def test_product_and_oracle_agree_over_http_and_after_a_drain(
    api: Api, project: Project, fields: dict[str, str]
) -> None:
    """Use the whole service: a request to the ASGI application, the queue, a drain and the table."""
    dataset: Dataset = services.create_dataset(project=project, name="Asked", fields=declared(fields))
    stored: list[dict[str, Any]] = []

    def check(question: Question) -> None:
        path = f"/datasets/{dataset.pk}" + ("" if question.form == "object" else "/batch")
        media_type = "application/x-ndjson" if question.form == "lines" else "application/json"
        response = api.post(path, question.body, media_type)
        expected = oracle.answers(fields, question.body, question.form, MAX_RECORDS)
        told = response.json()
        if response.status_code == 202:
            stored.extend(expected[0].rows)
            told = {"count": told.get("count", 1)}
        assert same(oracle.Answer(response.status_code, told), expected), (told, expected)

    ask(EXAMPLES // 20, SEED, check, fields)
    drain(dataset.pk)
    assert_equal(values(table_of(dataset).to_pyarrow_table().sort_by("id"), fields), stored)
    assert stored
