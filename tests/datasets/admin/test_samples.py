"""Fields from samples, samples from fields, and the meaning of schema changes."""

import json
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from django.core.exceptions import ValidationError

from datasets.admin.snippets import snippets
from datasets.schemas.changes import differences, in_words, problems
from datasets.schemas.declarations import parse_fields
from datasets.schemas.field_types import DECIMAL, ENUM, FIELD_TYPES
from datasets.schemas.fields import Field
from datasets.schemas.samples import example_record, infer, suggested_names, without_example
from datasets.schemas.schema import CompiledSchema
from ingest.validation.payloads import validate_one
from tests.conftest import FIELDS, RECORD


def inferred(text: str) -> dict[str, str]:
    return {field.name: field.type for field in infer(text).fields}


def test_it_infers_the_fields_of_the_example_record() -> None:
    assert inferred(json.dumps(RECORD)) == {field.name: field.type for field in FIELDS}


def typed(text: str) -> dict[str, str]:
    """Return the inferred types by name, with a ? after the types of optional fields."""
    return {field.name: field.type + "?" * field.optional for field in infer(text).fields}


def of(*values: str, name: str = "a") -> str:
    """Return the inferred type of a field that has these values, one in each record."""
    return typed("[" + ",".join(f'{{"{name}": {value}}}' for value in values) + "]")[name]


@pytest.mark.parametrize("text", ['{"a": 1}\n{"b": true}\n', '[{"a": 1}, {"b": true}]'], ids=["lines", "array"])
def test_it_infers_fields_from_several_records(text: str) -> None:
    assert typed(text) == {"a": "number?", "b": "boolean?"}
    assert infer(text).notes[-1] == "Optional, because a record lacks the field or has null: a, b."


def test_a_sample_does_not_change_the_fields_that_the_dataset_has() -> None:
    sample = '{"timestamp": "2026-06-10T10:58:00Z", "context": {}, "a": null, "b": null, "2fa": null, "c": null}'
    assert infer(sample, {"a": False, "b": True, "2fa": True}).notes == [
        "“c” is null in every sample, so its type is unknown. The type json takes any value. "
        "Choose another type if you know it: the type cannot be changed later.",
        "Optional, because a record lacks the field or has null: c.",
        "Still required, although a record of the sample lacks the field or has null: a. "
        "Mark a field as optional if clients may leave it out.",
    ]


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        ("timestamp", ['"2026-06-01T08:00:00Z"']),
        ("date", ['"2026-06-01"']),
        ("uuid", ['"F81D4FAE-7dec-11d0-a765-00a0c91e6bf6"']),
        ("string", ['"12.50"']),
        ("string", ['"2026-06-01 08:00:00"']),
        ("string", ['"2026-06-01T08:00:00Z"', '"soon"']),
        ("string", ['"2026-06-01T08:00:00Z"', '"2026-06-01"']),
        ("string?", ['"x"', "null"]),
        ("boolean?", ["null", "true"]),
        ("json", ['{"a": {"b": 1}}']),
        ("json?", ["null", "{}"]),
        ("json?", ["null"]),
        ("json", ["{}", "1"]),
        ("string[]", ['["x", "2026-06-01"]']),
        ("string[]", ['["2026-06-01"]']),
        ("timestamp[]", ['["2026-06-01T08:00:00Z"]', "[]"]),
        ("string[]", ['["2026-06-01T08:00:00Z"]', '["x"]']),
        ("number[]", ["[1, 2]"]),
        ("number[]?", ["[1]", "null", "[1.5]"]),
        ("integer[]", ["[1]", "[9007199254740993]"]),
        ("json", ["[]"]),
        ("json", ["[true]"]),
        ("json", ["[1, null]"]),
        ("json", ['[1, "x"]']),
        ("json", ["[1]", '["x"]']),
        ("json", ["[[1]]"]),
        ("json", ['["x"]', '"x"']),
    ],
)
def test_a_type_holds_all_values_of_the_sample(expected: str, values: list[str]) -> None:
    assert of(*values) == expected


@pytest.mark.parametrize(
    ("expected", "name", "values"),
    [
        ("number", "count", ["3"]),
        ("number", "paid", ["3"]),
        ("integer", "count", ["3", "9007199254740993"]),
        ("integer", "count", ["-9007199254740993"]),
        ("number", "count", ["9007199254740992"]),
        ("number", "count", ["9007199254740993", "0.5"]),
        ("number", "order_id", ["1", "1.5"]),
        ("number", "order_id", ["18446744073709551615"]),
        ("json", "count", ["1e400"]),
        *[("integer", name, ["3"]) for name in ("id", "order_id", "orderId", "orderID", "Customer ID", "ids")],
        ("integer[]", "tag_ids", ["[3]"]),
    ],
)
def test_whole_numbers_are_integers_if_they_are_large_or_ids(expected: str, name: str, values: list[str]) -> None:
    assert of(*values, name=name) == expected


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ("null", "“a” is null in every sample, so its type is unknown. The type json takes any value. "),
        ("[]", "“a” is an empty array in every sample, so the type of its elements is unknown. The type json "),
        ("18446744073709551615", "“a” has more digits in record 1 than a number keeps. Choose decimal "),
    ],
)
def test_it_notes_what_a_sample_does_not_show(value: str, note: str) -> None:
    found = infer('{"timestamp": "2026-06-10T10:58:00Z", "context": {}, "a": ' + value + "}")
    assert len(found.fields) == 1
    assert found.notes[0].startswith(note)


@pytest.mark.parametrize("values", [("1", '"x"'), ('"x"', "1"), ("true", "1")])
def test_it_names_mixed_types_in_either_order(values: tuple[str, str]) -> None:
    (note,) = infer(
        "["
        + ",".join(f'{{"timestamp": "2026-06-10T10:58:00Z", "context": {{}}, "a": {each}}}' for each in values)
        + "]"
    ).notes
    assert note.endswith("a field has one type.")
    assert "in record 1" in note
    assert "in record 2" in note


def test_it_names_the_records_whose_types_disagree() -> None:
    assert infer('[{"a": 1}, {"a": "x"}]').notes[1:] == [
        "“a” is number in record 1, but string in record 2: a field has one type."
    ]


@pytest.mark.parametrize(
    ("members", "notes"),
    [
        ('"timestamp": "2026-06-10T10:58:00Z", "context": {}, ', []),
        (
            "",
            [
                "Clients must also send “timestamp”, like 2026-06-10T10:58:00Z and “context”, an object like {} "
                "with each record."
            ],
        ),
        (
            '"timestamp": 1780000000, "context": "app", ',
            [
                "The “timestamp” of record 1 is not valid, and clients must send it differently. "
                "A timestamp is a string, like 2026-06-10T10:58:00Z.",
                "The “context” of record 1 is not an object, and clients must send an object.",
            ],
        ),
    ],
)
def test_it_names_the_other_members_that_clients_must_send(members: str, notes: list[str]) -> None:
    assert infer("{" + members + '"a": 1}').notes == notes


def test_a_suggested_name_is_valid_and_free() -> None:
    names = ["Customer Name", "2fa", "id", "ok", "OK", "Größe (m)", "名前", "", "customer_name!", "e-mail", "x" * 70]
    suggested = suggested_names(names)
    assert list(suggested.values()) == [
        *("customer_name", "_2fa", "_id", "ok_2", "grosse_m", "field_7", "field_8", "customer_name_2", "e_mail"),
        "x" * 63,
    ]
    assert list(suggested) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    applied = [suggested.get(index, name) for index, name in enumerate(names)]
    assert parse_fields({"fields": dict.fromkeys(applied, "string")})
    assert suggested_names(["timestamp", "id"], earlier=["id"]) == {}


REALISTIC = """{"id": 9007199254740993, "Customer Name": "Ada", "2fa": true, "address": {"city": "Cluj", "zip": null},
"tags": ["new", "eu"], "coupon": null, "born": "1990-12-10", "total": 12.5, "lines": [{"sku": "A1"}, {"sku": "B2"}]}"""


def test_a_dataset_takes_the_sample_after_the_suggested_names_are_used() -> None:
    fields = infer(REALISTIC).fields
    suggested = suggested_names([field.name for field in fields])
    renamed = [replace(field, name=suggested.get(index, field.name)) for index, field in enumerate(fields)]
    assert {field.name: field.type + "?" * field.optional for field in renamed} == {
        "_id": "integer",
        "customer_name": "string",
        "_2fa": "boolean",
        "address": "json",
        "tags": "string[]",
        "coupon": "json?",
        "born": "date",
        "total": "number",
        "lines": "json",
    }
    assert infer(REALISTIC).notes[-2].startswith("“id”, “Customer Name”, “2fa” cannot be field names.")
    example = example_record(renamed, REALISTIC)
    assert validate_one(CompiledSchema(1, renamed), example.encode()).count == 1
    sent = list(json.loads(REALISTIC).values())
    assert list(json.loads(example).values())[2:] == sent


@pytest.mark.parametrize("text", ["", "no", "[]", "12", '{"a": 1', '[{"a": 1}, 2]', "[" * 100_000])
def test_a_text_that_is_not_a_sample_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        infer(text)


def test_a_huge_sample_is_refused_quickly() -> None:
    """An earlier version counted all names again for each name: 1,000 records with 20,000 names took 40 seconds."""
    began = time.process_time()
    wide = json.dumps({f"f{n}": 1 for n in range(20_000)})
    with pytest.raises(ValidationError, match=r"20000 fields besides timestamp and context\. The limit is 200"):
        infer("[" + wide + ', {"f1": 1}' * 999 + "]")
    with pytest.raises(ValidationError, match="The limit is 1,000,000"):
        infer(" " * 1_000_001)
    assert time.process_time() - began < 1
    assert len(infer(json.dumps({"timestamp": 1, "context": 1} | {f"f{n}": 1 for n in range(200)})).fields) == 200


def test_the_example_record_is_valid_under_its_schema() -> None:
    assert validate_one(CompiledSchema(1, FIELDS), example_record(FIELDS).encode()).count == 1


def test_an_example_has_a_value_of_each_type() -> None:
    said = {f"a_{name}".replace("[]", "s"): name for name in FIELD_TYPES if name not in (DECIMAL, ENUM)}
    fields = parse_fields(
        {"fields": {**said, "exact": "decimal(12,2)", "state": {"type": "enum", "values": ["open", "paid"]}}}
    )
    schema = CompiledSchema(1, fields)
    assert validate_one(schema, example_record(fields).encode()).count == 1
    sample = '{"exact": 1234567890.10, "state": "paid", "a_integer": -9223372036854775808}'
    example = json.loads(example_record(fields, sample))
    assert (example["exact"], example["state"], example["a_integer"]) == ("1234567890.10", "paid", -(2**63))
    assert validate_one(schema, example_record(fields, sample).encode()).count == 1


def test_a_field_whose_example_does_not_fit_its_pattern_is_named() -> None:
    code = Field("code", "string", pattern="^[A-Z]{3}$")
    fields = [code, replace(code, name="other", optional=True), Field("plain", "string")]
    assert without_example(fields) == ["code"]
    assert json.loads(example_record(fields))["other"] is None
    assert without_example(fields, '{"code": "ABC"}') == []
    assert validate_one(CompiledSchema(1, fields), example_record(fields, '{"code": "ABC"}').encode()).count == 1


def test_an_added_field_is_described_with_all_that_it_says() -> None:
    field = Field("price", "decimal(9,2)", optional=True, unit="EUR", minimum="0", maximum="9.99")
    assert in_words(field) == "decimal(9,2); optional; at least 0; at most 9.99; unit: EUR"
    assert (
        in_words(Field("tags", "string[]", min_length=1, max_length=3))
        == "string[]; length at least 1; length at most 3"
    )
    (change,) = differences([], [Field("state", "enum", values=("a", "b"))])
    assert change.meaning == "enum; required; values: “a”, “b”."


def snippet(name: str, fields: list[Field], sample: str) -> str:
    return next(each.text for each in snippets("http://localhost", 1, fields, sample=sample) if each.name == name)


def test_javascript_does_not_round_an_integer() -> None:
    fields = [Field("order_number", "integer")]
    small, large = (snippet("node", fields, f'{{"order_number": {each}}}') for each in (7, 2**53 + 1))
    assert "body: JSON.stringify({\n" in small
    assert 'body: "{' in large
    assert "9007199254740993}" in large
    sent = snippet("typescript-client", fields, f'{{"order_number": {2**53 + 1}}}')
    assert '"order_number": 9007199254740993n' in sent


def test_each_kind_of_change_is_described() -> None:
    a, b, c = Field("a", "string"), Field("b", "number"), Field("c", "boolean")
    versions = [[a, b], [a, b, c], [b, c], [c, b], [c, Field("b", "number", "in EUR")], [c, Field("b", "string")]]
    kinds = [[(each.kind, each.field) for each in differences(old, new)] for old, new in pairwise(versions)]
    assert kinds == [
        [("added", "c")],
        [("removed", "a")],
        [("moved", "order")],
        [("described", "b")],
        [("refused", "b")],
    ]


def test_problems_name_the_row_of_the_field() -> None:
    found = problems([[Field("a", "string")]], [Field("ok", "string"), Field("a", "number"), Field("1x", "string")])
    assert [each.index for each in found] == [2, 1]
