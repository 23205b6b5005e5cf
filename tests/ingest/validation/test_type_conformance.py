"""Each type as tables: valid values, each with its stored form, and invalid values, each with the answer.

`test_rfc3339_conformance.py` has the table of timestamps, and `test_json_conformance.py` that of numbers.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field
from datasets.tables import records
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.support.entries import table_of

STATES = ("a", "b", "ä 😀", "two words")
UUID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
DEEP = "[" * 500 + "]" * 500

# A field -> a value as JSON text -> what the table has.
MUST_ACCEPT: dict[Field, dict[str, Any]] = {
    Field("integer", "integer"): {
        "0": 0,
        "-0": 0,
        "42": 42,
        "-1": -1,
        "9007199254740993": 2**53 + 1,  # a double cannot hold it
        "9223372036854775807": 2**63 - 1,
        "-9223372036854775808": -(2**63),
    },
    Field("decimal", "decimal(10,2)"): {
        "0": Decimal(0),
        "-0": Decimal(0),
        '"-0.00"': Decimal(0),
        "42": Decimal(42),
        "12.5": Decimal("12.5"),
        '"12.50"': Decimal("12.5"),
        "12.5000": Decimal("12.5"),  # zeros at the end do not count
        '"0.01"': Decimal("0.01"),
        "0.29": Decimal("0.29"),  # no double is 0.29
        "99999999.99": Decimal("99999999.99"),
        '"-99999999.99"': Decimal("-99999999.99"),
        "1e7": Decimal(10_000_000),
        '"1.5E+3"': Decimal(1500),
        "125e-2": Decimal("1.25"),
        "0e99999": Decimal(0),
        "7." + "0" * 5000: Decimal(7),
        r'"\u0031.\u0035"': Decimal("1.5"),
    },
    Field("long", "decimal(38,10)"): {
        '"1234567890123456789012345678.0123456789"': Decimal("1234567890123456789012345678.0123456789"),
        "-9999999999999999999999999999.9999999999": Decimal("-9999999999999999999999999999.9999999999"),
        "0.0000000001": Decimal("1e-10"),
    },
    Field("part", "decimal(3,3)"): {"0.999": Decimal("0.999"), '"-0.001"': Decimal("-0.001")},
    Field("whole", "decimal(20,0)"): {"18446744073709551616": Decimal(2**64), "3.0": Decimal(3)},
    # With these texts, Arrow would read outside of its memory. The worker would die, and so would each new worker.
    Field("zero", "decimal(12,2)"): dict.fromkeys(
        ["0e-41", "0e-400000", '"-0e-999999999"', "0e-999999999999999999", "0." + "0" * 5000], Decimal(0)
    ),
    Field("date", "date"): {
        '"2026-06-10"': date(2026, 6, 10),
        '"0001-01-01"': date(1, 1, 1),
        '"9999-12-31"': date(9999, 12, 31),
        '"1969-12-31"': date(1969, 12, 31),
        '"1582-10-10"': date(1582, 10, 10),
        '"2024-02-29"': date(2024, 2, 29),
        r'"\u0032026-06-10"': date(2026, 6, 10),
    },
    Field("uuid", "uuid"): {
        f'"{UUID}"': UUID,
        f'"{UUID.upper()}"': UUID.upper(),  # stored as it was sent
        '"00000000-0000-0000-0000-000000000000"': "00000000-0000-0000-0000-000000000000",
        '"ffffffff-ffff-ffff-ffff-ffffffffffff"': "ffffffff-ffff-ffff-ffff-ffffffffffff",
    },
    Field("json", "json"): {
        each: each
        for each in ("null", "true", "1.50", "1e400", '"x"', '"\\u00e9"', "[]", '{ "b" : 1,"a":[1.0, null] }', DEEP)
    },
    Field("enum", "enum", values=STATES): {
        '"a"': "a",
        r'"\u0061"': "a",
        r'"\u00e4 \ud83d\ude00"': "ä 😀",
        '"two words"': "two words",
    },
    Field("strings", "string[]"): {"[]": [], '["a", "", "ä😀"]': ["a", "", "ä😀"]},
    Field("numbers", "number[]"): {"[]": [], "[1, 2.5,-0.0 ,1e300]": [1.0, 2.5, -0.0, 1e300]},
    Field("integers", "integer[]"): {"[]": [], "[9223372036854775807,-1]": [2**63 - 1, -1]},
    Field("timestamps", "timestamp[]"): {
        "[]": [],
        '["2026-06-10T10:58:00+02:00", "2026-06-10t10:58:00.1234565z"]': [
            datetime(2026, 6, 10, 8, 58, tzinfo=UTC),
            datetime(2026, 6, 10, 10, 58, 0, 123457, tzinfo=UTC),
        ],
    },
}
DIGITS = "It has more than 8 digits before the point."
ROUNDED = "It has more than 2 digits after the point, and nothing is rounded."
SPELLED = "Write it like 12.50: digits and a point, without spaces, currency signs or thousands separators."
WHOLE = "Write an integer without a point and without an exponent: 1, not 1.0 or 1e0."
BEYOND = "It is beyond 64 bits: an integer is -9223372036854775808 to 9223372036854775807."
DAY = "It is not like 2026-06-10: a date has no time of day and no offset."
HYPHENS = f"Write it as 32 hexadecimal digits with hyphens, like {UUID}."
# A field -> what the answer expects -> values as JSON text -> the detail.
MUST_REJECT: dict[Field, tuple[str, Mapping[str, str | None]]] = {
    Field("integer", "integer"): (
        "integer",
        dict.fromkeys(["1.0", "1.5", "-0.0", "1e3", "1E0", "1e-1", "1.0e1", "1e400"], WHOLE)
        | dict.fromkeys(["9223372036854775808", "-9223372036854775809", "1" * 30, "1" * 5000], BEYOND)
        | dict.fromkeys(['"1"', "true", "null", "[1]", "{}"]),
    ),
    Field("decimal", "decimal(10,2)"): (
        "decimal(10,2), as a number or a string",
        dict.fromkeys(["0.001", '"0.001"', "1e-3", "12.345", "1e-99999999999999999999"], ROUNDED)
        | dict.fromkeys(["100000000", '"100000000.00"', "1e8", "1e400", "1e99999999999999999999", "1" * 5000], DIGITS)
        | dict.fromkeys(
            ['""', '" 1"', '"1 "', '"1_000"', '"1,000"', '"+1"', '".5"', '"5."', '"01"', '"0x1"', '"NaN"', '"٣"'],
            SPELLED,
        )
        | dict.fromkeys(['"Infinity"', '"-Infinity"', '"1e"', '"$1"', '"1.5\\n"', '"--1"'], SPELLED)
        | dict.fromkeys(["true", "null", "[1]", "{}"]),
    ),
    Field("part", "decimal(3,3)"): (
        "decimal(3,3), as a number or a string",
        {"1": "It has more than 0 digits before the point."},
    ),
    Field("whole", "decimal(20,0)"): (
        "decimal(20,0), as a number or a string",
        {"0.5": "It has a fraction, and nothing is rounded."},
    ),
    Field("date", "date"): (
        "RFC 3339 full-date",
        dict.fromkeys(
            ['""', '"now"', '"2026-06-10T10:58:00Z"', '"2026-06-10Z"', '"20260610"', '"2026-6-10"', '"10.06.2026"',
             '"2026-W24-3"', '"2026-161"', '" 2026-06-10"', '"2026-06-10\\n"', '"10000-01-01"', '"-2026-06-10"',
             '"２026-06-10"'],
            DAY,
        )
        | {"\"2026-02-29\"": "There is no date 2026-02-29.", '"2026-13-01"': "There is no date 2026-13-01."}
        | {'"1900-02-29"': "There is no date 1900-02-29.", '"2026-00-10"': "There is no date 2026-00-10."}
        | {'"0000-01-01"': "The year must be 0001 to 9999."}
        | dict.fromkeys(["20260610", "null", "[]"], "A date is a string, like 2026-06-10."),
    ),
    Field("uuid", "uuid"): (
        "UUID",
        dict.fromkeys(
            ['""', f'"{UUID.replace("-", "")}"', f'"{{{UUID}}}"', f'"urn:uuid:{UUID}"', f'"{UUID}0"', f'"{UUID[:-1]}"',
             f'"{UUID[:-1]}g"', f'" {UUID}"', f'"{UUID}\\n"', f'"{UUID[1:]}f"'],
            HYPHENS,
        )
        | dict.fromkeys(["1", "null"], f"A UUID is a string, like {UUID}."),
    ),
    Field("enum", "enum", values=STATES): (
        'one of "a", "b", "ä 😀", "two words"',
        {'"A"': 'Write it exactly like "a".', '"a "': 'Write it exactly like "a".', '"c"': None, '""': None, "1": None}
        | dict.fromkeys(["null", '["a"]', "true"]),
    ),
    Field("strings", "string[]"): (
        "array, each element: string",
        {'"a"': None, "null": None, "{}": None, "[1]": "Element 0, counted from 0: expected string, received number."}
        | {'["a", null]': "Element 1, counted from 0: expected string, received null."}
        | {'["a",["b"]]': "Element 1, counted from 0: expected string, received array."},
    ),
    Field("numbers", "number[]"): (
        "array, each element: number",
        {"1": None, "[1, null]": "Element 1, counted from 0: expected number, received null."}
        | {"[1e309]": "Element 0, counted from 0: It is beyond the range of a double."},
    ),
    Field("integers", "integer[]"): (
        "array, each element: integer",
        {"[1, 2.0]": f"Element 1, counted from 0: {WHOLE}"}
        | {"[9223372036854775808]": f"Element 0, counted from 0: {BEYOND}"},
    ),
    Field("timestamps", "timestamp[]"): (
        "array, each element: RFC 3339 date-time with an offset",
        {'["2026-06-10T10:58:00Z", "2026-06-10 10:58:00Z"]':
             "Element 1, counted from 0: A T must stand between date and time, not a space."}
        | {'["2026-06-10T10:58:00+0000"]': "Element 0, counted from 0: The offset needs a colon, like +02:00."}
        | {'["0001-01-01T00:00:00+01:00"]': "Element 0, counted from 0: Its moment, in whole microseconds, must lie in "
           "the years 0001 to 9999, both in the text and in UTC."}
        | {r'["2026-06-10T10:58:00\u002b0000"]': "Element 0, counted from 0: The offset needs a colon, like +02:00."},
    ),
}  # fmt: skip


def with_examples(**given: str) -> str:
    """Return a record with the types' examples, and some values given as JSON text."""
    values = {"timestamp": '"2026-06-10T10:58:00Z"', "context": "{}"}
    values |= {field.name: json.dumps(type_of(field).example) for field in MUST_ACCEPT}
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in (values | given).items()) + "}"


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="Typed", fields=list(MUST_ACCEPT))


def send(api: Api, form: str, records: list[str]) -> None:
    if form == "array":
        responses = [api.batch("[" + ",".join(records) + "]")]
    elif form == "lines":
        responses = [api.batch("\n".join(records), content_type="application/x-ndjson")]
    else:
        responses = [api.one(each) for each in records]
    assert {response.status_code for response in responses} == {202}, responses[0].text


@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_every_value_is_stored_exactly(api: Api, dataset: Dataset, form: str) -> None:
    sent = [(field.name, text, value) for field, values in MUST_ACCEPT.items() for text, value in values.items()]
    send(api, form, [with_examples(**{name: text}) for name, text, _ in sent])
    drain(dataset.pk)
    rows = table_of(dataset).to_pyarrow_table().sort_by("id").to_pylist()
    assert [(name, text, row[name]) for row, (name, text, _) in zip(rows, sent, strict=True)] == sent
    assert [type(row[name]) for row, (name, _, _) in zip(rows, sent, strict=True)] == [
        type(value) for *_, value in sent
    ]


@pytest.mark.parametrize("field", MUST_REJECT, ids=lambda field: field.type)
def test_every_other_value_is_refused_with_a_reason(api: Api, dataset: Dataset, field: Field) -> None:
    expected, values = MUST_REJECT[field]
    for text, detail in values.items():
        record = with_examples(**{field.name: text})
        for answer in (api.one(record), api.batch(f"[{record}]")):
            told = answer.json()
            assert (answer.status_code, told["error"]) == (400, f"Invalid {field.type} field: {field.name}"), text
            assert (told["code"], told["field"], told["expected"]) == ("invalid_field", field.name, expected)
            assert told.get("detail") == detail, text


def test_columns_have_the_documented_types(api: Api, dataset: Dataset) -> None:
    send(api, "object", [with_examples()])
    drain(dataset.pk)
    columns = pa.schema(table_of(dataset).schema())
    assert {field.name: columns.field(field.name).type for field in MUST_ACCEPT} == {
        "integer": pa.int64(),
        "decimal": pa.decimal128(10, 2),
        "long": pa.decimal128(38, 10),
        "part": pa.decimal128(3, 3),
        "whole": pa.decimal128(20, 0),
        "zero": pa.decimal128(12, 2),
        "date": pa.date32(),
        "uuid": pa.string(),
        "json": pa.string(),
        "enum": pa.string(),
        "strings": pa.list_(pa.string()),
        "numbers": pa.list_(pa.float64()),
        "integers": pa.list_(pa.int64()),
        "timestamps": pa.list_(pa.timestamp("us", "UTC")),
    }


def test_pages_get_arrays_as_texts_that_are_cut(api: Api, dataset: Dataset) -> None:
    send(api, "object", [with_examples(strings='["a","b"]', timestamps="[]", integers="[1,2]")])
    drain(dataset.pk)
    found = records.latest(dataset, 1, max_characters=5)
    assert found is not None
    (row,) = found.to_pylist()
    assert (row["strings"], row["integers"], row["timestamps"]) == ("[a, b", "[1, 2", "[]")
