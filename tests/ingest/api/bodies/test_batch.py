"""`POST /datasets/<id>/batch`: a batch is accepted as a whole, or its problems are listed."""

import json
from typing import Any

from config.common import redis
from datasets.models import Dataset
from quotas import counters
from quotas.services import current
from tests.conftest import Api, record, stored
from tests.support.entries import in_stream
from tests.support.servers.outages import everything_in, own_client

NDJSON = {"Content-Type": "application/x-ndjson"}


def lines(*records: Any) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in records)


def places(answer: Any) -> list[tuple[int, str]]:
    return [(problem["index"], problem["error"]) for problem in answer["errors"]]


def test_it_says_how_many_records_it_queued(api: Api, dataset: Dataset) -> None:
    for count in (1, 2, 10_000):
        response = api.batch([record(amount=number) for number in range(count)])
        assert (response.status_code, response.json()["count"]) == (202, count)
    assert api.batch(lines(*[record()] * 3), **NDJSON).json() == {"success": True, "count": 3, "status": "queued"}
    assert in_stream(dataset) == 4
    amounts = [row["amount"] for row in stored(dataset)]
    assert amounts == [0, 0, 1, *range(10_000), 42.5, 42.5, 42.5]


def test_one_bad_record_refuses_the_batch_and_changes_nothing(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    before = everything_in(own_client())
    for at in (0, 57, 99):
        records = [record(amount="x" if index == at else index) for index in range(100)]
        for response in (api.batch(records), api.batch(lines(*records), **NDJSON)):
            answer = response.json()
            assert (response.status_code, answer["index"]) == (400, at)
            assert answer == {
                "error": "Invalid number field: amount",
                "code": "invalid_field",
                "index": at,
                "field": "amount",
                "expected": "number",
                "received": "string",
                "errors": [
                    {
                        "error": "Invalid number field: amount",
                        "code": "invalid_field",
                        "index": at,
                        "field": "amount",
                        "expected": "number",
                        "received": "string",
                    }
                ],
            }
    assert everything_in(own_client()) == before


def test_problems_are_listed_record_by_record(api: Api) -> None:
    records = [
        record(),
        record(signup_at=1, extra=1, timestamp=...),
        17,
        record(),
        record(plan=..., context=[]),
        [],
        None,
        {},
    ]
    expected = [
        (1, "Invalid or missing timestamp"),
        (1, "Extra field: extra"),
        (1, "Invalid timestamp field: signup_at"),
        (2, "Payload must be an object"),
        (4, "context must be an object"),
        (4, "Missing field: plan"),
        (5, "Payload must be an object"),
        (6, "Payload must be an object"),
        (7, "Invalid or missing timestamp"),
        (7, "context must be an object"),
        (7, "Missing field: country"),
        (7, "Missing field: plan"),
        (7, "Missing field: amount"),
        (7, "Missing field: active"),
        (7, "Missing field: signup_at"),
    ]
    for response in (api.batch(records), api.batch(lines(*records), **NDJSON)):
        answer = response.json()
        assert places(answer) == expected
        assert answer["errors"][3] == {
            "error": "Payload must be an object",
            "code": "not_an_object",
            "index": 2,
            "expected": "object",
            "received": "number",
        }


def test_an_element_that_is_not_an_object_is_named_by_its_index(api: Api) -> None:
    for text, kind in (("1", "number"), ('"x"', "string"), ("null", "null"), ("true", "boolean"), ("[{}]", "array")):
        answer = api.batch(f"[{json.dumps(record())}, {text}]").json()
        assert (answer["error"], answer["code"]) == ("Payload must be an object", "not_an_object")
        assert (answer["index"], answer["expected"], answer["received"]) == (1, "object", kind)
        assert "field" not in answer


def test_at_most_twenty_problems_of_all_records_are_listed(api: Api) -> None:
    for found in (20, 21, 5000):
        for response in (api.batch([1] * found), api.batch(lines(*[1] * found), **NDJSON)):
            answer = response.json()
            assert places(answer) == [(index, "Payload must be an object") for index in range(20)]
            assert answer.get("truncated") is (True if found > 20 else None)


def test_a_body_that_is_not_a_non_empty_array_is_refused(api: Api) -> None:
    for body in ("[]", " [ ] ", "{}", json.dumps(record()), "null", "1", "true", '"[]"'):
        response = api.batch(body)
        assert response.status_code == 400
        answer = {"error": "Batch body must be a non-empty array", "code": "invalid_batch"}
        assert response.json() == answer, body


def test_invalid_json_is_reported_before_a_missing_array(api: Api) -> None:
    for body in ("", "[", "{", "[]]", '[{"a":NaN}]', "nonsense"):
        assert api.batch(body).json()["error"] == "Invalid JSON body"


def test_duplicate_name_in_a_batch_is_stored_with_its_last_value(api: Api, dataset: Dataset) -> None:
    twice = json.dumps(record()).replace('"amount": 42.5', '"amount": "x", "amount": 7')
    once = json.dumps(record())
    assert api.batch(f"[{once}, {twice}]").json()["count"] == 2
    assert api.batch(f"{once}\n\n{twice}\n", **NDJSON).json()["count"] == 2
    assert [row["amount"] for row in stored(dataset)] == [42.5, 7, 42.5, 7]


def test_a_batch_is_charged_by_the_record(api: Api, dataset: Dataset) -> None:
    owner = dataset.project.owner
    api.batch([record()] * 7)
    api.batch(lines(*[record()] * 5), **NDJSON)
    api.one(record())
    quota = current(owner.pk)
    assert quota.used == 13
    assert redis.client().get(counters.total_key(owner.pk, quota.period)) == b"13"
    assert redis.client().get(counters.delta_key(owner.pk, quota.period)) == b"13"
