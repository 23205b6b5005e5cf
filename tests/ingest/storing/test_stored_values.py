"""The table has exactly the values that were sent, and the right types."""

import json
import math
import struct
from typing import Any

import pyarrow as pa
import pytest

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from datasets.tables.layout import PARTITION, base_columns
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.support.entries import enqueue, table_of

TIMESTAMPS = {  # as sent -> microseconds since the epoch in UTC
    "2026-06-10T10:58:00Z": 1781089080000000,
    "2026-06-10t10:58:00z": 1781089080000000,
    "2026-06-10T10:58:00+02:00": 1781081880000000,
    "2026-06-10T10:58:00-00:00": 1781089080000000,
    "2026-06-10T10:58:00.123456-09:30": 1781123280123456,
    "2026-06-10T10:58:00.1Z": 1781089080100000,
    "1969-12-31T23:59:59.999999Z": -1,
    "2024-02-29T23:59:59+23:59": 1709164859000000,
    "0001-01-01T00:00:00Z": -62135596800000000,
    "0001-01-01T23:59:00+23:59": -62135596800000000,
    "9999-12-31T23:59:59.999999Z": 253402300799999999,
    "9999-12-31T00:00:59.999999-23:59": 253402300799999999,
}
NUMBERS = {  # as sent -> the double
    "0": 0.0,
    "-0.0": -0.0,
    "-0": 0.0,  # the zero of an integer has no sign
    "42": 42.0,
    "0.1": 0.1,
    "1e6": 1e6,
    "-12.5E-2": -0.125,
    "5e-324": 5e-324,
    "2.2250738585072014e-308": 2.2250738585072014e-308,
    "1.7976931348623157e308": 1.7976931348623157e308,
    "9007199254740993": 9007199254740992.0,
    "18446744073709551616": 2.0**64,
    "0.30000000000000004441": 0.30000000000000004,
    "1e-400": 0.0,
}
STRINGS = [
    "",
    " ",
    "a\x00b",
    "\x00",
    "line\nfeed\ttab\u2028",
    "😀👩‍👩‍👧",
    "ÅÅ ǅ",  # composed and decomposed characters stay as they are
    "\ufeffBOM inside",
    "\uffff\U0010ffff",
    "'; DROP TABLE records; --",
    "null",
    "é" * 700_000,  # 1.3 MiB
]
CONTEXTS = [
    "{}",
    '{ "b" : 1,"a":[1.0, 1e2 ,true],\n\t"b": 2 }',
    '{"text":"\\u00e9\\ud83d\\ude00 é😀 \\/ \\u0000"}',
    '{"big":12345678901234567890123456789,"deep":' + "[" * 100 + "]" * 100 + "}",
    '{"long":"' + "x" * 1_500_000 + '"}',
]


@pytest.fixture
def fields() -> list[Field]:
    return [Field("t", "timestamp"), Field("n", "number"), Field("s", "string"), Field("b", "boolean")]


@pytest.fixture
def dataset(project: Project, fields: list[Field]) -> Dataset:
    return services.create_dataset(project=project, name="Values", fields=fields)


def text(**given: str) -> str:
    """Return a record as JSON text. The values are JSON texts, too."""
    values = {"timestamp": '"2026-06-10T10:58:00Z"', "context": "{}", "t": '"2026-06-10T10:58:00Z"'}
    values |= {"n": "1", "s": '""', "b": "true", **given}
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in values.items()) + "}"


def column(dataset: Dataset, name: str) -> list[Any]:
    """Drain, and return one column in the order of acceptance. Timestamps are microseconds, to allow every year."""
    drain(dataset.pk)
    table = table_of(dataset).to_pyarrow_table().sort_by("id")
    values = table[name]
    return list((values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_pylist())


def send_all(api: Api, form: str, records: list[str]) -> None:
    if form == "object":
        responses = [api.one(each) for each in records]
    elif form == "array":
        responses = [api.batch("[" + ",".join(records) + "]")]
    else:
        lines = "\n\n".join(each.replace("\n", " ") for each in records) + "\r\n"
        responses = [api.batch(lines, content_type="application/x-ndjson")]
    assert {response.status_code for response in responses} == {202}, responses[0].text


@pytest.mark.parametrize("form", ["object", "array", "lines"])
@pytest.mark.parametrize("name", ["t", "timestamp"])
def test_timestamps_are_stored_to_the_microsecond_in_utc(api: Api, dataset: Dataset, form: str, name: str) -> None:
    send_all(api, form, [text(**{name: json.dumps(sent)}) for sent in TIMESTAMPS])
    assert column(dataset, name) == list(TIMESTAMPS.values())


@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_numbers_are_stored_to_the_bit(api: Api, dataset: Dataset, form: str) -> None:
    send_all(api, form, [text(n=sent) for sent in NUMBERS])
    found = [struct.pack(">d", value) for value in column(dataset, "n")]
    assert found == [struct.pack(">d", value) for value in NUMBERS.values()]
    assert math.copysign(1, column(dataset, "n")[1]) == -1


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_strings_are_stored_to_the_code_point(api: Api, dataset: Dataset, form: str, escaped: bool) -> None:
    send_all(api, form, [text(s=json.dumps(each, ensure_ascii=escaped)) for each in STRINGS])
    assert column(dataset, "s") == STRINGS


@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_booleans_are_stored(api: Api, dataset: Dataset, form: str) -> None:
    send_all(api, form, [text(b="true"), text(b="false")])
    assert column(dataset, "b") == [True, False]


@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_context_is_stored_as_the_text_that_was_sent(api: Api, dataset: Dataset, form: str) -> None:
    send_all(api, form, [text(context=each) for each in CONTEXTS])
    expected = [each.replace("\n", " ") for each in CONTEXTS] if form == "lines" else CONTEXTS
    assert column(dataset, "context") == expected


def test_columns_have_the_types_of_the_contract(api: Api, dataset: Dataset) -> None:
    send_all(api, "object", [text()])
    drain(dataset.pk)
    found = pa.schema(table_of(dataset).schema())
    utc = pa.timestamp("us", "UTC")
    declared = {"t": utc, "n": pa.float64(), "s": pa.string(), "b": pa.bool_()}
    assert {field.name: field.type for field in found} == {
        **{field.name: field.type for field in base_columns()},
        **declared,
        PARTITION: pa.date32(),
    }


def test_row_has_its_dataset_time_of_acceptance_and_trace_id(api: Api, dataset: Dataset, project: Project) -> None:
    response = api.batch("[" + ",".join([text(s='"0"'), text(s='"1"')]) + "]", X_Request_Id="req_1")
    drain(dataset.pk)
    rows = table_of(dataset).to_pyarrow_table().sort_by("id").to_pylist()
    _, ms, seq, _ = response.headers["Location"].rpartition("/")[2].split("-")
    assert [row["id"] for row in rows] == [f"{int(ms):013}-{int(seq):07}-{index:05}" for index in (0, 1)]
    assert [row["s"] for row in rows] == ["0", "1"]
    for row in rows:
        assert (row["project_id"], row["dataset_id"], row["__traceId"]) == (project.pk, dataset.pk, "req_1")
        assert row["ingested_at"].timestamp() == int(ms) / 1000
        assert row[PARTITION] == row["ingested_at"].date()


def test_compaction_and_checkpoints_keep_the_values(api: Api, dataset: Dataset) -> None:
    for stamp, number, string in zip(TIMESTAMPS, NUMBERS, STRINGS, strict=False):
        send_all(api, "object", [text(t=json.dumps(stamp), n=number, s=json.dumps(string))])
        drain(dataset.pk)
    delta = table_of(dataset)
    delta.optimize.compact()
    delta.create_checkpoint()
    assert column(dataset, "t") == list(TIMESTAMPS.values())
    assert column(dataset, "n") == list(NUMBERS.values())[: len(TIMESTAMPS)]
    assert column(dataset, "s") == STRINGS


# -- names --------------------------------------------------------------------------------------------

NAMES = ["def", "self", "__class__", "__init__", "__struct_fields__", "f0", "f1", "select", "from", "order", "ORDER2"]
NAMES += ["ingested_on", "count", "sum", "camelCase", "Upper", "_", "__", "x" * 63, "schema", "fields", "true", "null"]


def test_every_allowed_field_name_can_be_stored(api: Api, project: Project) -> None:
    fields = [Field(name, "string") for name in NAMES]
    api.dataset = services.create_dataset(project=project, name="Names", fields=fields)
    values = {name: f"value of {name}" for name in NAMES}
    for _ in range(2):
        response = api.one({"timestamp": "2026-06-10T10:58:00Z", "context": {}, **values})
        assert response.status_code == 202, response.text
        drain(api.dataset.pk)
    table_of(api.dataset).optimize.compact()
    rows = table_of(api.dataset).to_pyarrow_table().to_pylist()
    assert [{name: row[name] for name in NAMES} for row in rows] == [values, values]


def test_schema_with_200_fields_can_be_stored(api: Api, project: Project) -> None:
    types = {"string": "x", "number": 1.5, "boolean": False, "timestamp": "2026-06-10T10:58:00Z"}
    kinds = [list(types)[n % 4] for n in range(200)]
    fields = [Field(f"field_{n}", kind) for n, kind in enumerate(kinds)]
    api.dataset = services.create_dataset(project=project, name="Wide", fields=fields)
    values = {f"field_{n}": types[kind] for n, kind in enumerate(kinds)}
    response = api.batch([{"timestamp": "2026-06-10T10:58:00Z", "context": {}, **values}] * 3)
    assert response.status_code == 202, response.text
    drain(api.dataset.pk)
    rows = table_of(api.dataset).to_pyarrow_table().to_pylist()
    assert len(rows) == 3
    for row in rows:
        found = [row[f"field_{n}"] for n in range(200)]
        assert [getattr(value, "isoformat", lambda value=value: value)() for value in found] == [
            "2026-06-10T10:58:00+00:00" if kind == "timestamp" else types[kind] for kind in kinds
        ]


@pytest.mark.parametrize("amount", ["0.001", "1" + "0" * 10, '"1e999999999"', '"NaN"', '"-Infinity"'])
def test_decimal_that_does_not_fit_goes_to_quarantine(project: Project, amount: str) -> None:
    prices = services.create_dataset(project=project, name="Prices", fields=[Field("amount", "decimal(12,2)")])
    for each in (amount, "12.5"):
        enqueue(prices, b'{"timestamp":"2026-06-10T10:58:00Z","context":{},"amount":%b}' % each.encode())
    assert drain(prices.pk) == 1
    assert prices.quarantine.get().reason.startswith("a value does not match its schema version: ")
