"""`GET /datasets/<id>/schema`: the schema version in force, for clients."""

import json
from typing import Any

import jsonschema_rs
import pytest

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from datasets.schemas.declarations import parse_fields
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field
from datasets.schemas.samples import example_record
from tests.conftest import FIELDS, Api, record

JSON_SCHEMA = "application/schema+json"
EVERY_TYPE: dict[str, Any] = {
    "a": "string",
    "b": "number?",
    "c": "boolean",
    "d": "timestamp",
    "e": {"type": "integer", "optional": True, "unit": "EUR", "description": "what it costs"},
    "f": "decimal(10,2)",
    "g": "date?",
    "h": "uuid",
    "i": "json",
    "j": {"type": "enum", "values": ["x", "y"]},
    "k": "string[]",
    "l": "number[]",
    "m": "integer[]?",
    "n": "timestamp[]",
}


@pytest.fixture
def path(dataset: Dataset) -> str:
    return f"/datasets/{dataset.pk}/schema"


@pytest.fixture
def with_every_type(dataset: Dataset, path: str) -> list[Field]:
    fields = parse_fields({"fields": {field.name: field.type for field in FIELDS} | EVERY_TYPE})
    services.save_dataset(dataset, fields=fields)
    return fields


def json_schema(api: Api, path: str) -> dict[str, Any]:
    response = api.request("GET", path, headers={"Accept": JSON_SCHEMA})
    assert (response.status_code, response.headers["Content-Type"]) == (200, JSON_SCHEMA)
    found: dict[str, Any] = response.json()
    return found


def test_the_schema_has_the_shape_of_the_original(api: Api, path: str) -> None:
    response = api.request("GET", path)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert response.json() == {"version": 1, "fields": {field.name: field.type for field in FIELDS}}


def test_what_is_answered_can_be_declared_again(api: Api, path: str, with_every_type: list[Field]) -> None:
    answer = api.request("GET", path).json()
    assert answer["version"] == 2
    assert EVERY_TYPE.items() <= answer["fields"].items()
    assert parse_fields(answer) == with_every_type


def test_the_json_schema_accepts_what_the_service_accepts(api: Api, path: str, with_every_type: list[Field]) -> None:
    schema = json_schema(api, path)
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    good: dict[str, Any] = json.loads(example_record(with_every_type))
    optional = [field.name for field in with_every_type if field.optional]
    assert optional
    for accepted in (
        good,
        {name: value for name, value in good.items() if name not in optional},
        good | dict.fromkeys(optional),
        good | {"f": 1.5, "k": [], "i": None},
    ):
        assert api.one(accepted).status_code == 202, accepted
        assert validator.is_valid(accepted), accepted
    wrong: dict[str, Any] = {
        "a": 1, "b": "1", "c": 1, "d": "yesterday", "e": 2**63, "f": "12,5", "g": "2026-13-01", "h": "x", "j": "z",
        "k": "a", "l": ["1"], "m": [1.5], "n": ["now"], "extra": 1, "context": 1, "timestamp": None,
    }  # fmt: skip
    for name, value in wrong.items():
        assert api.one(good | {name: value}).status_code == 400, name
        assert not validator.is_valid(good | {name: value}), name
    for name in {*good, "timestamp"} - {*optional}:
        assert not validator.is_valid({other: value for other, value in good.items() if other != name}), name


def test_every_type_is_in_this_test(with_every_type: list[Field]) -> None:
    assert all(type_of(field).json_schema for field in with_every_type if field.type != "json")


def test_the_json_schema_has_descriptions_and_units(api: Api, path: str, with_every_type: list[Field]) -> None:
    described = json_schema(api, path)["properties"]["e"]
    assert (described["description"], described["x-unit"]) == ("what it costs", "EUR")


def test_an_unchanged_schema_is_not_sent_again(api: Api, dataset: Dataset, path: str) -> None:
    for accept in ("application/json", JSON_SCHEMA):
        first = api.request("GET", path, headers={"Accept": accept})
        etag = first.headers["ETag"]
        assert first.headers["Vary"] == "Accept, Origin"
        for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
            again = api.request("GET", path, headers={"Accept": accept, "If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
            assert "Content-Length" not in again.headers
    assert api.request("GET", path, headers={"If-None-Match": etag}).status_code == 200, "another media type"
    services.save_dataset(dataset, fields=[*FIELDS, Field("source", "string")])
    changed = api.request("GET", path, headers={"Accept": JSON_SCHEMA, "If-None-Match": etag})
    assert (changed.status_code, "source" in changed.json()["properties"]) == (200, True)


def test_a_changed_schema_is_answered_at_once(api: Api, dataset: Dataset, path: str) -> None:
    assert api.one(record()).status_code == 202  # the contract is cached
    services.save_dataset(dataset, fields=[*FIELDS, Field("source", "string")])
    assert api.request("GET", path).json()["fields"]["source"] == "string"


def test_what_the_key_may_not_see_is_not_answered(api: Api, key: ApiKey, dataset: Dataset, path: str) -> None:
    assert Api(None).request("GET", path).status_code == 401
    assert api.request("GET", f"/datasets/{dataset.pk + 1}/schema").json()["error"] == "Dataset schema not found"
    assert api.request("GET", "/datasets/x/schema").json()["error"] == "Invalid dataset ID"
    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    assert api.request("GET", path).json()["error"] == "Dataset schema not found"
    services.revoke_key(key)
    assert Api(issue_token(key)).request("GET", path).json()["error"] == "Invalid API key"
