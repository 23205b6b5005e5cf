"""Fields from samples, samples from fields, and the meaning of schema changes."""

import json
import time
from itertools import pairwise

import pytest
from django.core.exceptions import ValidationError

from datasets.schemas.changes import differences, problems
from datasets.schemas.fields import Field
from datasets.schemas.samples import example_record, infer
from datasets.schemas.schema import CompiledSchema
from ingest.validation.payloads import validate_one
from tests.conftest import FIELDS, RECORD


def inferred(text: str) -> dict[str, str]:
    return {field.name: field.type for field in infer(text).fields}


def test_it_infers_the_fields_of_the_example_record() -> None:
    assert inferred(json.dumps(RECORD)) == {field.name: field.type for field in FIELDS}


@pytest.mark.parametrize("text", ['{"a": 1}\n{"b": true}\n', '[{"a": 1}, {"b": true}]'], ids=["lines", "array"])
def test_it_infers_fields_from_several_records(text: str) -> None:
    found = infer(text)
    assert [(field.name, field.type) for field in found.fields] == [("a", "number"), ("b", "boolean")]
    assert found.notes == [
        "“a” is missing in 1 of 2 records: every field is required.",
        "“b” is missing in 1 of 2 records: every field is required.",
    ]


def test_a_field_that_is_a_time_only_sometimes_is_a_string() -> None:
    assert inferred('[{"at": "2026-06-01T08:00:00Z"}, {"at": "soon"}]') == {"at": "string"}


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (
            "null",
            "“a” is null in every sample, so its type is unknown. Add the field yourself, or move it into context.",
        ),
        ("{}", "“a” is object, which no field type holds. Move it into context."),
        ("[1]", "“a” is array, which no field type holds. Move it into context."),
    ],
)
def test_it_names_values_that_no_field_can_hold(value: str, note: str) -> None:
    found = infer('{"a": ' + value + "}")
    assert found.fields == []
    assert found.notes == [note]


@pytest.mark.parametrize("values", [("1", '"x"'), ('"x"', "1"), ("true", "1"), ('"x"', "null"), ("1", "null")])
def test_it_names_mixed_types_in_either_order(values: tuple[str, str]) -> None:
    (note,) = infer("[" + ",".join(f'{{"a": {value}}}' for value in values) + "]").notes
    assert note.endswith("a field has one type.")
    assert "in record 1" in note
    assert "in record 2" in note


def test_it_names_the_records_whose_types_disagree() -> None:
    assert infer('[{"a": 1}, {"a": "x"}]').notes == [
        "“a” is number in record 1, but string in record 2: a field has one type."
    ]


@pytest.mark.parametrize("text", ["", "no", "[]", "12", '{"a": 1', '[{"a": 1}, 2]', "[" * 100_000])
def test_a_text_that_is_not_a_sample_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        infer(text)


def test_a_huge_sample_is_refused_quickly() -> None:
    """Names were once counted again for each name: 1,000 records with 20,000 names took 40 seconds."""
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
