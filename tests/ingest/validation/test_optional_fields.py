"""Optional fields: a missing or null value is null in the table, whether the body is an object, an array or lines.

Any other value is checked.
"""

import json
from typing import Any

import pytest

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field
from tests.conftest import Api, stored

TYPES = ["string", "number", "boolean", "timestamp", "integer", "decimal(10,2)", "date", "uuid", "json", "enum"]
TYPES += ["string[]", "number[]", "integer[]", "timestamp[]"]
FIELDS = [
    Field(f"f{n}", name, optional=True, values=("a", "b") if name == "enum" else ()) for n, name in enumerate(TYPES)
]
BASE = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "needed": "x"}
VALUES = {field.name: type_of(field).example for field in FIELDS}


@pytest.fixture
def dataset(project: Project) -> Dataset:
    # Required fields may follow optional ones.
    fields = [*FIELDS, Field("needed", "string")]
    return services.create_dataset(project=project, name="Optional", fields=fields)


@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_absent_and_null_are_stored_as_null(api: Api, dataset: Dataset, form: str) -> None:
    records: list[dict[str, Any]] = [BASE, BASE | dict.fromkeys(VALUES), BASE | VALUES, BASE]
    if form == "lines":
        text = "\n".join(map(json.dumps, records))
        assert api.batch(text, content_type="application/x-ndjson").status_code == 202
    elif form == "array":
        assert api.batch(records).status_code == 202
    else:
        assert [api.one(each).status_code for each in records] == [202] * 4
    absent, null, full, again = stored(dataset)
    for name, example in VALUES.items():
        assert (absent[name], null[name], again[name]) == (None, None, None), name
        assert full[name] is not None
        assert name != "f0" or full[name] == example
    assert {row["needed"] for row in (absent, null, full, again)} == {"x"}


def test_a_column_of_nulls_keeps_its_type(api: Api, dataset: Dataset) -> None:
    """The first drain has no value of the field. The next drains have values."""
    for record in (BASE, BASE | VALUES, BASE | dict.fromkeys(VALUES)):
        assert api.one(record).status_code == 202
        rows = stored(dataset)
    assert [row["f4"] for row in rows] == [None, 42, None]
    assert [row["f10"] for row in rows] == [None, ["text"], None]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.type)
def test_any_other_value_of_an_optional_field_is_checked(api: Api, dataset: Dataset, field: Field) -> None:
    if field.type == "json":
        assert api.one(BASE | {field.name: {"any": [None]}}).status_code == 202
        return
    wrong: Any = 5 if field.type in ("string", "timestamp", "date", "uuid", "enum") else {"a": 1}
    told = api.one(BASE | {field.name: wrong}).json()
    assert told["error"] == f"Invalid {field.type} field: {field.name}"
    assert told["expected"].endswith(", or null")
    if field.type.endswith("[]"):
        told = api.one(BASE | {field.name: [None]}).json()
        assert told["error"] == f"Invalid {field.type} field: {field.name}"


def test_a_lax_timestamp_is_refused_in_an_optional_field_and_in_an_array(api: Api, dataset: Dataset) -> None:
    for name, value in (("f3", "2026-06-10 10:58:00Z"), ("f13", ["2026-06-10T10:58:00+0000"])):
        told = api.one(BASE | {name: value}).json()
        assert told["error"] == f"Invalid {TYPES[int(name[1:])]} field: {name}"
    # A text that only looks like such a timestamp makes the validator read the timestamps a second time.
    accepted = BASE | {"f0": "2026-06-10 10:58:00", "f3": None, "f13": ["2026-06-10T10:58:00Z"]}
    assert api.one(accepted).status_code == 202


def test_only_required_fields_are_missing(api: Api, dataset: Dataset) -> None:
    told = api.one({"timestamp": BASE["timestamp"], "context": {}}).json()
    assert [each["error"] for each in told["errors"]] == ["Missing field: needed"]
    told = api.one({**BASE, "needed": None}).json()
    assert [each["error"] for each in told["errors"]] == ["Invalid string field: needed"]


def test_the_last_value_of_a_name_that_occurs_twice_counts(api: Api, dataset: Dataset) -> None:
    for values in ('"f0":"x","f0":null', '"f0":5,"f0":null', '"f0":null,"f0":"y"'):
        body = json.dumps(BASE).replace('"needed"', f'{values},"needed"')
        assert api.one(body).status_code == 202, values
    assert [row["f0"] for row in stored(dataset)] == [None, None, "y"]


def test_a_field_is_added_as_optional_without_notice(api: Api, project: Project) -> None:
    """A client that does not know the field can continue: it sends one record before the change, and one after it."""
    dataset = services.create_dataset(project=project, name="Grows", fields=[Field("needed", "string")])
    api.dataset = dataset
    assert api.one(BASE).status_code == 202
    services.save_dataset(dataset, fields=[Field("needed", "string"), Field("note", "integer[]", optional=True)])
    assert api.one(BASE).status_code == 202
    assert api.one(BASE | {"note": [1]}).status_code == 202
    assert [row["note"] for row in stored(dataset)] == [None, None, [1]]


def test_a_required_field_becomes_optional(api: Api, project: Project) -> None:
    dataset = services.create_dataset(project=project, name="Relaxed", fields=[Field("needed", "string")])
    api.dataset = dataset
    assert api.one(BASE).status_code == 202
    services.save_dataset(dataset, fields=[Field("needed", "string", optional=True)])
    assert api.one({name: value for name, value in BASE.items() if name != "needed"}).status_code == 202
    assert [row["needed"] for row in stored(dataset)] == ["x", None]
