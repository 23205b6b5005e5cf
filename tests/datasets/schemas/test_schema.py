"""The rules of a schema, and the rules for its next version."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from datasets.models import Dataset, Project
from datasets.schemas.changes import check_successor
from datasets.schemas.declarations import MAX_FIELDS, parse_fields, read_fields
from datasets.schemas.derived_types import type_of
from datasets.schemas.field_types import FIELD_TYPES
from datasets.schemas.fields import Field


def problems(given: Any) -> list[str]:
    with pytest.raises(ValidationError) as refusal:
        parse_fields(given)
    return refusal.value.messages


def declared(*names: str) -> dict[str, dict[str, str]]:
    return {"fields": dict.fromkeys(names, "string")}


# -- input --------------------------------------------------------------------------------------------


def test_fields_are_an_object_or_rows_and_keep_their_order() -> None:
    expected = [Field("b", "number"), Field("a", "string")]
    assert parse_fields({"fields": {"b": "number", "a": "string"}}) == expected
    rows = [{"name": "b", "type": "number"}, {"name": "a", "type": "string", "description": None}]
    assert parse_fields(rows) == parse_fields({"fields": rows}) == expected
    assert parse_fields([{"name": "a", "type": "string", "description": "in EUR"}])[0].description == "in EUR"
    assert parse_fields({"fields": {}}) == []


def test_every_type_of_the_table_can_be_declared() -> None:
    assert [*FIELD_TYPES] == [
        *("string", "number", "boolean", "timestamp"),  # the original's
        *("integer", "decimal(p,s)", "date", "uuid", "json", "enum"),
        *("string[]", "number[]", "integer[]", "timestamp[]"),
    ]
    said = {f"f{n}": name for n, name in enumerate(FIELD_TYPES)}
    said["f5"] = "decimal(10,2)"
    declared = {**said, "f9": {"type": "enum", "values": ["a", "b"]}}
    fields = parse_fields({"fields": declared})
    assert {field.name: field.type for field in fields} == {**said, "f9": "enum"}
    for field in fields:
        kind = type_of(field)
        assert kind.accepts(json.dumps(kind.example).encode()), field


def test_a_field_says_more_than_its_type_in_either_form() -> None:
    said = {"type": "decimal(10, 2)", "optional": True, "description": "net", "unit": "EUR"}
    field = Field("price", "decimal(10,2)", "net", optional=True, unit="EUR")
    assert parse_fields({"fields": {"price": said}}) == parse_fields([{"name": "price", **said}]) == [field]
    assert parse_fields({"fields": {"a": "string?", "b": "integer[]?", "c": "decimal(5,2)?"}}) == [
        Field("a", "string", optional=True),
        Field("b", "integer[]", optional=True),
        Field("c", "decimal(5,2)", optional=True),
    ]
    assert parse_fields([{"name": "a", "type": "string?"}]) == [Field("a", "string", optional=True)]
    assert parse_fields({"fields": {"a": {"type": "enum", "values": ["x"]}}}) == [Field("a", "enum", values=("x",))]


def test_a_version_stores_only_what_is_not_the_default() -> None:
    assert Field("a", "string").as_json() == {"name": "a", "type": "string", "description": ""}
    full = Field("a", "enum", "what", optional=True, values=("x", "y"), unit="EUR")
    stored = {"name": "a", "type": "enum", "description": "what", "optional": True, "values": ["x", "y"], "unit": "EUR"}
    assert full.as_json() == stored
    assert Field.from_json(json.loads(json.dumps(stored))) == full


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"optional": "yes"}, "“optional” must be true or false."),
        ({"optional": 1}, "“optional” must be true or false."),
        ({"values": "a"}, "“values” must be a list of texts."),
        ({"values": ["a", 1]}, "“values” must be a list of texts."),
        ({"unit": 5}, "“unit” must be a text."),
        ({"name": "b"}, "remove “name”. In an object of fields, the name stands before the colon."),
        (
            {"required": True},
            "there is no “required”. A field has: name, type, description, unit, optional, values, "
            "minimum, maximum, min_length, max_length, pattern.",
        ),
        ({"type": "enum"}, 'an enum needs its values, like {"type": "enum", "values": ["a", "b"]}.'),
        ({"type": "enum", "values": []}, 'an enum needs its values, like {"type": "enum", "values": ["a", "b"]}.'),
        ({"type": "enum", "values": ["a", "b", "a"]}, "a value is there twice."),
        ({"type": "enum", "values": ["x" * 201]}, "a value may have at most 200 characters."),
        ({"type": "enum", "values": ["a\x00"]}, "a value has characters that cannot be stored."),
        ({"type": "enum", "values": [str(n) for n in range(1001)]}, "it has 1001 values. The limit is 1000."),
        ({"values": ["a"]}, "only an enum has values, string has none."),
        ({"unit": "\ud800"}, "the unit has characters that cannot be stored."),
    ],
)
def test_a_wrong_member_of_a_field_is_named(said: dict[str, Any], message: str) -> None:
    assert problems({"fields": {"a": {"type": "string", **said}}}) == [f"“a”: {message}"]


def test_a_field_says_its_constraints() -> None:
    said: dict[str, Any] = {"type": "string", "min_length": 1, "max_length": 9, "pattern": "^[a-z]+$"}
    assert parse_fields({"fields": {"a": said}}) == [
        Field("a", "string", min_length=1, max_length=9, pattern="^[a-z]+$")
    ]
    assert parse_fields({"fields": {"a": {"type": "decimal(5,2)", "minimum": 0, "maximum": "99.5"}}}) == [
        Field("a", "decimal(5,2)", minimum=0, maximum="99.5")
    ]
    # The version stores the maximum length of texts with a pattern, so that clients can see it.
    assert parse_fields({"fields": {"a": {"type": "string", "pattern": "x"}}})[0].max_length == 1000
    assert Field("a", "number", minimum=0).as_json() == {"name": "a", "type": "number", "description": "", "minimum": 0}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"type": "boolean", "minimum": 1}, "boolean has no minimum. It is for numbers, integers, decimals, "
         "dates and timestamps."),
        ({"type": "number[]", "maximum": 1}, "number[] has no maximum. It is for numbers, integers, decimals, "
         "dates and timestamps."),
        ({"type": "number", "min_length": 1}, "number has no min_length. It is for strings and arrays."),
        ({"type": "json", "max_length": 1}, "json has no max_length. It is for strings and arrays."),
        ({"type": "string[]", "pattern": "x"}, "string[] has no pattern. It is for strings."),
        ({"type": "number", "minimum": "1"}, "minimum is not a value of the field: number."),
        ({"type": "number", "minimum": 1e309}, "minimum is not a value of the field: number."),
        ({"type": "integer", "maximum": 1.5}, "maximum is not a value of the field: integer."),
        ({"type": "decimal(5,2)", "minimum": 0.001}, "minimum is not a value of the field: decimal(5,2), as a number "
         "or a string."),
        ({"type": "date", "minimum": "2026-02-30"}, "minimum is not a value of the field: RFC 3339 full-date."),
        ({"type": "timestamp", "maximum": "2026-02-03"}, "maximum is not a value of the field: RFC 3339 date-time with "
         "an offset."),
        ({"type": "number", "minimum": True}, "“minimum” must be a number or a text."),
        ({"type": "string", "min_length": -1}, "“min_length” must be a whole number from 0."),
        ({"type": "string", "min_length": 1.0}, "“min_length” must be a whole number from 0."),
        ({"type": "number", "minimum": 2, "maximum": 1.5}, "no value is at least 2 and at most 1.5."),
        ({"type": "date", "minimum": "2026-01-02", "maximum": "2026-01-01"}, "no value is at least 2026-01-02 and "
         "at most 2026-01-01."),
        ({"type": "string", "min_length": 2, "max_length": 1}, "nothing has at least 2 and at most 1 character."),
        ({"type": "string", "pattern": "(a"}, "the pattern is not valid in RE2: missing ): (a."),
        ({"type": "string", "pattern": "(?=a)b"}, "the pattern is not valid in RE2: invalid perl operator: (?=."),
        ({"type": "string", "pattern": r"(a)\1"}, r"the pattern is not valid in RE2: invalid escape sequence: \1."),
        ({"type": "string", "pattern": "(a{1,1000}){1,9}"}, "the pattern is not valid in RE2: invalid repetition size: "
         "{1,9}."),
        ({"type": "string", "pattern": "(.{1,30}){1,30}"}, "the pattern is not valid in RE2: it repeats too much: use "
         "max_length instead of large counts, and fewer classes of Unicode."),
        ({"type": "string", "pattern": "a" * 501}, "a pattern has at most 500 characters, and no NUL."),
        ({"type": "string", "pattern": "a", "max_length": 1001}, "a field with a pattern needs a max_length of at most "
         "1000."),
    ],
)  # fmt: skip
def test_a_wrong_constraint_is_explained(said: dict[str, Any], message: str) -> None:
    assert problems({"fields": {"a": said}}) == [f"“a”: {message}"]


@pytest.mark.parametrize("type_name", ["decimal", "decimal(10)", "decimal(p,s)", "decimal()", "decimal(1.5,2)"])
def test_a_decimal_without_digits_is_refused(type_name: str) -> None:
    text = f"“a”: write how many digits in all, and after the point, like decimal(10,2), not {type_name}."
    assert problems({"fields": {"a": type_name}}) == [text]


@pytest.mark.parametrize("type_name", ["decimal(39,2)", "decimal(0,0)", "decimal(5,6)", "decimal(100,0)"])
def test_a_decimal_of_too_many_digits_is_refused(type_name: str) -> None:
    text = f"“a”: write decimal(p,s) with p from 1 to 38 and s from 0 to p, not {type_name}."
    assert problems({"fields": {"a": type_name}}) == [text]


@pytest.mark.parametrize("given", [None, 5, "fields", {}, {"fields": None}, {"fields": "a"}, {"Fields": {}}])
def test_a_value_that_is_not_a_schema_gets_an_example(given: Any) -> None:
    assert problems(given) == ['A schema is an object like {"fields": {"amount": "number"}}.']


@pytest.mark.parametrize(
    ("row", "called"),
    [
        *((None, "null"), (5, "5"), ("a", '"a"'), (True, "true"), ([], "An array"), ({"name": "a"}, "“a”")),
        *((each, "An object without a name") for each in ({}, {"type": "string"}, {"name": 1, "type": "string"})),
    ],
)
def test_a_row_without_name_and_type_is_refused(row: Any, called: str) -> None:
    said = "is not a field: it needs a name and a type, both texts."
    assert problems([{"name": "fine", "type": "string"}, row]) == [f"{called} {said}"]
    assert problems({"fields": {"a": None}}) == [f"“a” {said}"]


@pytest.mark.parametrize("text", ["", "{", b"\xff", "{'a': 1}", "[" * 100_000, b'{"fields": {"a": "string"},}'])
def test_a_text_that_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValidationError) as refusal:
        read_fields(text)
    (said,) = refusal.value.messages
    assert said.startswith("This is not JSON: ")


def test_a_byte_order_mark_is_accepted() -> None:
    assert read_fields(b'\xef\xbb\xbf{"fields": {"a": "string"}}') == [Field("a", "string")]


@pytest.mark.parametrize("number", ["0.12345678901234567890", "12345678901234567.89", "1e400"])
def test_a_number_that_would_be_rounded_is_refused(number: str) -> None:
    declaration = '{"fields": {"a": {"type": "decimal(38,20)", "minimum": %s}}}'
    with pytest.raises(ValidationError) as refusal:
        read_fields(declaration % number)
    text = f"The number {number} has more digits than are kept. Write it as a text, in quotes."
    assert refusal.value.messages == [text]
    (kept,) = read_fields(declaration % '"0.12345678901234567890"')
    assert kept.minimum == "0.12345678901234567890"
    for exact in ("0.1", "12.50", "1.5e3", "-0.0"):
        read_fields(declaration % exact)


def test_a_field_declared_twice_is_refused() -> None:
    with pytest.raises(ValidationError) as refusal:
        read_fields('{"fields": {"a": "string", "b": "number", "a": "number", "b": "number"}}')
    assert refusal.value.messages == ["“a” is declared twice.", "“b” is declared twice."]


# -- names and types ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "_", "A1", "__", "_1", "a" * 63, "Timestamp_", "trace_id", "def", "__init__"])
def test_a_valid_name_is_accepted(name: str) -> None:
    assert parse_fields(declared(name)) == [Field(name, "string")]


@pytest.mark.parametrize("name", ["", "1a", "a" * 64, "a b", "a-b", "a.b", "é", "a\n", "\na", "a\x00", "a٣", "$a"])
def test_an_invalid_name_is_refused(name: str) -> None:
    assert problems(declared(name)) == [
        f"“{name}” cannot be a field name. Use at most 63 letters, digits and _, and do not start with a digit."
    ]


@pytest.mark.parametrize(
    "name", ["timestamp", "context", "id", "project_id", "dataset_id", "ingested_at", "__traceId", "__schemaVersion"]
)  # the reserved names of the contract
def test_a_reserved_name_is_refused_in_any_case(name: str) -> None:
    for written in {name, name.upper(), name.lower(), name.title()}:
        assert problems(declared(written)) == [f"“{written}” is reserved: every record has it already."]


def test_a_reserved_name_stays_allowed_where_an_earlier_version_has_it() -> None:
    assert parse_fields(declared("__schemaVersion"), {"__schemaVersion"}) == [Field("__schemaVersion", "string")]
    with pytest.raises(ValidationError, match="is reserved"):
        parse_fields(declared("__SCHEMAVERSION"), {"__schemaVersion"})


def test_names_that_differ_only_in_case_are_refused() -> None:
    assert problems(declared("amount", "Amount", "other", "AMOUNT")) == [
        "“Amount” and “amount” differ only in case, so they would share a column.",
        "“AMOUNT” and “amount” differ only in case, so they would share a column.",
    ]


@pytest.mark.parametrize("type_name", ["", "String", "int", "date[]", "number ", "null", "string??", "string[][]"])
def test_an_unknown_type_is_refused_with_the_known_ones(type_name: str) -> None:
    (said,) = problems({"fields": {"a": type_name}})
    assert said == f"“a”: there is no type “{type_name.removesuffix('?')}”. Types: {', '.join(FIELD_TYPES)}."


@pytest.mark.parametrize("description", ["a\x00b", "\ud800"])
def test_a_description_that_cannot_be_stored_is_refused(description: str) -> None:
    row = {"name": "a", "type": "string", "description": description}
    assert problems([row]) == ["“a”: the description has characters that cannot be stored."]
    assert parse_fields([{**row, "description": "żółć 😀\n"}])[0].description == "żółć 😀\n"


def test_a_schema_has_at_most_200_fields() -> None:
    names = [f"f{n}" for n in range(MAX_FIELDS + 1)]
    assert MAX_FIELDS == 200
    assert len(parse_fields(declared(*names[:200]))) == 200
    assert problems(declared(*names)) == ["The schema has 201 fields. The limit is 200."]


MANY = 40_000
TOO_MANY = f"The schema has {MANY} fields. The limit is 200."


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (json.dumps(declared(*(f"f{n}" for n in range(MANY)))), [TOO_MANY]),
        (json.dumps([{"name": f"1{n}", "type": "x"} for n in range(10_000)]), [TOO_MANY.replace("40000", "10000")]),
        ("[" + "0," * MANY + "0]", [TOO_MANY.replace("40000", "40001")]),
        (
            '{"fields": {' + ",".join(f'"f{n // 2}":""' for n in range(MANY)) + "}}",
            [f"“f{n}” is declared twice." for n in range(200)],
        ),
        (json.dumps(declared("x" * 2_000_000)), ["This text has 2,000,026 characters. The limit is 1,000,000."]),
    ],
    ids=["names", "rows", "no rows", "names twice", "a long name"],
)
def test_a_huge_schema_is_refused_quickly(text: str, messages: list[str]) -> None:
    """An earlier version compared each name with each other name: 40,000 names took 10 seconds of CPU."""
    began = time.process_time()
    with pytest.raises(ValidationError) as refusal:
        read_fields(text)
    assert time.process_time() - began < 1
    assert refusal.value.messages == messages


def test_a_huge_schema_file_is_refused(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(declared(*(f"f{n}" for n in range(MANY)))))
    with pytest.raises(CommandError, match=TOO_MANY):
        call_command("create_dataset", project.slug, "Wide", schema=file)
    assert not Dataset.objects.filter(name="Wide").exists()


def test_all_wrong_fields_are_named_together() -> None:
    rows: list[Any] = [
        {"name": "fine", "type": "string"},
        {"name": "1st", "type": "string"},
        7,
        {"name": "ID", "type": "text"},
        {"name": "Fine", "type": "number"},
    ]
    found = problems(json.loads(json.dumps(rows)))
    assert found[0] == "7 is not a field: it needs a name and a type, both texts."
    assert [text.split("”")[0].lstrip("“") for text in found[1:]] == ["1st", "ID", "ID", "Fine"]
    assert "reserved" in found[2]
    assert "no type “text”" in found[3]


# -- the next version ---------------------------------------------------------------------------------

V1 = [Field("amount", "number"), Field("plan", "string")]


def successor_problems(*versions: list[Field]) -> list[str]:
    *earlier, fields = versions
    try:
        check_successor(earlier, fields)
    except ValidationError as refusal:
        return refusal.messages
    return []


def test_fields_can_be_added_removed_moved_and_restored() -> None:
    assert successor_problems(V1) == []
    assert successor_problems(V1, [*V1, Field("more", "boolean")]) == []
    assert successor_problems(V1, V1[:1]) == successor_problems(V1, []) == []
    assert successor_problems(V1, V1[::-1]) == []
    assert successor_problems(V1, [Field("amount", "number", "in EUR"), V1[1]]) == []
    assert successor_problems(V1, V1[1:], V1) == []


def test_a_column_keeps_its_type() -> None:
    changed = [Field("amount", "string"), Field("plan", "timestamp")]
    assert successor_problems(V1, changed) == [
        "“amount” is stored as number and cannot become string: add a field with a new name instead.",
        "“plan” is stored as string and cannot become timestamp: add a field with a new name instead.",
    ]


def test_a_column_keeps_its_type_after_its_field_is_removed() -> None:
    for between in ([V1[1:]], [V1[1:], []], [[], V1, []]):
        assert successor_problems(V1, *between, [Field("amount", "string")]) == [
            "“amount” is stored as number and cannot become string: add a field with a new name instead."
        ]
        assert successor_problems(V1, *between, [Field("AMOUNT", "string")]) == [
            "“AMOUNT” is stored as number and cannot become string: add a field with a new name instead."
        ]


def test_a_field_can_become_optional_and_required_only_with_a_grace_period() -> None:
    optional = [Field("amount", "number", optional=True), V1[1]]
    assert successor_problems(V1, optional) == []
    assert successor_problems(V1, [*V1, Field("more", "string", optional=True)]) == []
    assert successor_problems(V1, optional, V1) == [
        "“amount” is optional, so clients may leave it out. It can become required only with a grace period, in which "
        "the previous version stays valid."
    ]
    check_successor([V1, optional], V1, with_grace=True)


def test_an_integer_cannot_become_a_number() -> None:
    assert successor_problems([Field("id", "integer")], [Field("id", "number")]) == [
        "“id” is stored as integer and cannot become number: add a field with a new name instead."
    ]


def test_the_values_of_an_enum_can_change() -> None:
    states = [[Field("state", "enum", values=tuple(values))] for values in ("ab", "abc", "c")]
    assert successor_problems(*states) == []


def test_a_column_keeps_its_spelling() -> None:
    for versions in ([V1], [V1, []]):
        assert successor_problems(*versions, [Field("Amount", "number")]) == [
            "“Amount”: the table already has the column “amount”; use that spelling."
        ]
