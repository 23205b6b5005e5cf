"""`POST /datasets/<id>`: the rules for a record, and the errors of records that break them."""

import json
from typing import Any

import pytest

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from tests.conftest import Api, record, stored
from tests.support.entries import in_stream

DATE_TIME = "RFC 3339 date-time with an offset"
TYPES = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
# JSON texts, each with the name of its type in errors.
LITERALS = {
    '"text"': "string",
    '""': "string",
    '"12.5"': "string",
    '"true"': "string",
    '"null"': "string",
    '"2026-06-10"': "string",
    "0": "number",
    "1": "number",
    "-12.5e-3": "number",
    "1781000000": "number",
    "true": "boolean",
    "false": "boolean",
    "null": "null",
    "{}": "object",
    '{"amount":1}': "object",
    "[]": "array",
    '["RO"]': "array",
}


def with_literal(name: str, text: str) -> bytes:
    """Return the example's record, with a JSON text as the value of one field."""
    return json.dumps(record(**{name: "@"})).replace('"@"', text).encode()


def problems(answer: Any) -> list[str]:
    return [problem["error"] for problem in answer["errors"]]


@pytest.fixture
def plain(api: Api, project: Project) -> Api:
    """A client of a dataset whose schema declares nothing."""
    api.dataset = services.create_dataset(project=project, name="Plain", fields=[])
    return api


# -- values -------------------------------------------------------------------------------------------


def test_nothing_is_coerced(api: Api, dataset: Dataset) -> None:
    accepted = 0
    for name, type_name in TYPES.items():
        for text, kind in LITERALS.items():
            response = api.one(with_literal(name, text))
            if kind == type_name:
                accepted += 1
                assert response.status_code == 202, (name, text)
                continue
            assert response.status_code == 400, (name, text)
            answer = response.json()
            assert answer["error"] == f"Invalid {type_name} field: {name}"
            assert (answer["code"], answer["field"]) == ("invalid_field", name)
            assert answer["expected"] == (DATE_TIME if type_name == "timestamp" else type_name)
            assert answer["received"] == kind
    assert len(stored(dataset)) == accepted == 12


def test_a_number_that_overflows_a_double_is_invalid(api: Api) -> None:
    for text in ("1e309", "-1e309", "1e999999999", "9" * 310, "-" + "9" * 310, "1" + "0" * 309 + ".5", "9" * 5000):
        response = api.one(with_literal("amount", text))
        assert (response.status_code, response.json()["error"]) == (400, "Invalid number field: amount"), text[:20]
        assert response.json()["received"] == "number"


def test_a_number_is_the_nearest_double(api: Api, dataset: Dataset) -> None:
    numbers = ["0", "-0", "0.1", "9007199254740993", "1.7976931348623157e308", "5e-324", "1e-400", "9" * 308, "1E+2"]
    for text in numbers:
        assert api.one(with_literal("amount", text)).status_code == 202, text
    assert [row["amount"] for row in stored(dataset)] == [float(text) for text in numbers]


def test_context_is_an_object_and_nothing_else(api: Api) -> None:
    for text, kind in LITERALS.items():
        response = api.one(with_literal("context", text))
        if kind == "object":
            assert response.status_code == 202
            continue
        answer = response.json()
        assert (answer["error"], answer["code"]) == ("context must be an object", "invalid_context"), text
        assert (answer["field"], answer["expected"], answer["received"]) == ("context", "object", kind)


def test_the_timestamp_is_a_date_time_and_nothing_else(api: Api) -> None:
    for text, kind in LITERALS.items():
        answer = api.one(with_literal("timestamp", text)).json()
        assert (answer["error"], answer["code"]) == ("Invalid or missing timestamp", "invalid_timestamp"), text
        assert (answer["field"], answer["expected"], answer["received"]) == ("timestamp", DATE_TIME, kind)


def test_a_body_that_is_not_an_object_is_refused(api: Api) -> None:
    for text, kind in LITERALS.items():
        if kind == "object":
            continue
        response = api.one(text.encode())
        assert response.status_code == 400
        answer = response.json()
        assert (answer["error"], answer["code"]) == ("Payload must be an object", "not_an_object"), text
        assert (answer["expected"], answer["received"]) == ("object", kind)
        assert "field" not in answer
        assert "index" not in answer


# -- names --------------------------------------------------------------------------------------------


def test_a_missing_value_is_received_as_nothing(api: Api) -> None:
    errors = {
        "timestamp": "Invalid or missing timestamp",
        "context": "context must be an object",
        **{name: f"Missing field: {name}" for name in ("country", "plan", "amount", "active", "signup_at")},
    }
    for name, error in errors.items():
        answer = api.one(record(**{name: ...})).json()
        assert (answer["error"], answer["field"], answer["received"]) == (error, name, "nothing")


def test_names_that_differ_in_case_are_different_names(api: Api) -> None:
    answer = api.one(record(country=..., Country="RO")).json()
    assert problems(answer) == ["Extra field: Country", "Missing field: country"]


def test_an_extra_field_is_named_as_it_was_written(api: Api) -> None:
    for name in (
        "",
        "extra",
        "țară",
        "a b",
        "1",
        "__traceId",
        "id",
        "project_id",
        "ingested_at",
        '"',
        "\0",
        "x" * 100,
    ):
        answer = api.one(record(**{name: None})).json()
        assert answer["error"] == f"Extra field: {name}"
        assert (answer["field"], answer["expected"], answer["received"]) == (name, "nothing", "null")


def test_a_name_written_with_escapes_is_the_same_name(api: Api, dataset: Dataset) -> None:
    body = json.dumps(record()).replace('"amount"', r'"am\u006funt"')
    assert api.one(body).status_code == 202
    assert [row["amount"] for row in stored(dataset)] == [42.5]


def test_a_field_may_have_any_name_the_rules_allow(api: Api, project: Project) -> None:
    names = [
        "_",
        "a" * 63,
        "def",
        "class",
        "None",
        "__init__",
        "__class__",
        "f0",
        "self",
        "Timestamp2",
        "select",
        "date",
    ]
    api.dataset = services.create_dataset(project=project, name="Odd", fields=[Field(name, "string") for name in names])
    body = {"timestamp": "2026-06-10T10:58:00Z", "context": {}}
    assert problems(api.one(body).json()) == [f"Missing field: {name}" for name in names]
    assert api.one({**body, **{name: name for name in names}}).status_code == 202
    (row,) = stored(api.dataset)
    assert {name: row[name] for name in names} == {name: name for name in names}


def test_last_value_of_a_duplicate_name_counts(api: Api, dataset: Dataset) -> None:
    rest = json.dumps(record(amount=..., context=...))[1:]
    context = '"context": {"a": 1, "a": 2}, '
    for twice, amount in (
        ('"amount": "x", "amount": 1, ', 1),
        ('"amount": 1, "amount": 2, ', 2),
        ('"amount": null, "amount": "x", "amount": 3, ', 3),
        ('"amount": "x", "am\\u006funt": 4, ', 4),
    ):
        assert api.one("{" + context + twice + rest).status_code == 202, twice
        assert stored(dataset)[-1]["amount"] == amount
        assert stored(dataset)[-1]["context"] == '{"a": 1, "a": 2}'
    for twice in ('"amount": 1, "amount": "x", ', '"amount": 1, "amount": null, '):
        assert api.one("{" + context + twice + rest).json()["error"] == "Invalid number field: amount"
    assert api.one('{"context": [], ' + context + '"amount": 1, ' + rest).status_code == 202
    assert api.one("{" + context + '"context": 1, "amount": 1, ' + rest).json()["error"] == "context must be an object"
    lax = '{"timestamp": "2026-06-10 10:58:00Z", "amount": 1, '
    assert api.one(lax + context + rest).status_code == 202
    assert len(stored(dataset)) == 6


def test_a_schema_without_fields_accepts_timestamp_and_context(plain: Api) -> None:
    body = {"timestamp": "2026-06-10T10:58:00Z", "context": {}}
    assert plain.one(body).status_code == 202
    assert plain.one({**body, "amount": 1}).json()["error"] == "Extra field: amount"
    assert plain.one({}).json()["error"] == "Invalid or missing timestamp"
    assert plain.dataset is not None
    assert len(stored(plain.dataset)) == 1


# -- several problems ---------------------------------------------------------------------------------


def test_problems_are_listed_in_the_order_of_the_contract(api: Api) -> None:
    """First timestamp and context, then extra fields in the body's order, then missing and wrong fields."""
    body = b'{"zeta": 1, "signup_at": 1, "active": 1, "alpha": 2, "context": 1, "country": 1, "timestamp": 1}'
    answer = api.one(body).json()
    assert problems(answer) == [
        "Invalid or missing timestamp",
        "context must be an object",
        "Extra field: zeta",
        "Extra field: alpha",
        "Missing field: plan",
        "Missing field: amount",
        "Invalid string field: country",
        "Invalid boolean field: active",
        "Invalid timestamp field: signup_at",
    ]
    assert answer["error"] == "Invalid or missing timestamp"
    first = answer["errors"][0]
    assert {name: answer[name] for name in first} == first
    assert "truncated" not in answer
    assert set(first) == {"error", "code", "field", "expected", "received", "detail"}


def test_an_empty_record_lacks_everything(api: Api) -> None:
    assert problems(api.one({}).json()) == [
        "Invalid or missing timestamp",
        "context must be an object",
        "Missing field: country",
        "Missing field: plan",
        "Missing field: amount",
        "Missing field: active",
        "Missing field: signup_at",
    ]


def test_twenty_problems_are_listed_and_more_set_truncated(api: Api) -> None:
    for found in (19, 20, 21, 500):
        answer = api.one(record(**{f"extra_{number}": None for number in range(found)})).json()
        assert problems(answer) == [f"Extra field: extra_{number}" for number in range(min(found, 20))]
        assert answer.get("truncated") is (True if found > 20 else None)


def test_a_record_with_problems_is_not_queued(api: Api, dataset: Dataset) -> None:
    assert api.one(record(amount="x")).status_code == 400
    assert in_stream(dataset) == 0
