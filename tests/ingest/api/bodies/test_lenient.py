"""`Prefer: handling=lenient` on a batch: good records are accepted, and only bad ones are refused."""

import json
from typing import Any

import httpx
import pytest
from django.conf import settings as configured

from config.common import redis
from datasets import services
from datasets.models import Dataset, Project
from ingest.monitoring import refusals
from ingest.queue import redis_keys
from ingest.validation.lenient import is_preferred
from ingest.validation.record_errors import MAX_PROBLEMS
from quotas.services import current, set_limit
from tests.conftest import FIELDS, Api, record, stored
from tests.support.entries import in_stream
from tests.support.servers.outages import everything_in, own_client, replies_lost

LENIENT = {"Prefer": "handling=lenient"}
NDJSON = {"Content-Type": "application/x-ndjson"}
APPLIED = "Preference-Applied"


@pytest.fixture(autouse=True)
def full_allowance() -> None:
    refusals.forget_allowances()


def lines(*records: Any) -> bytes:
    """Return NDJSON. Bytes are used as they are."""
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in records)


def places(answer: Any) -> list[tuple[int, str]]:
    return [(problem["index"], problem["error"]) for problem in answer["errors"]]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("handling=lenient", True),
        ("respond-async, handling=lenient", True),
        ("respond-async,handling=lenient;wait=10", True),
        ('foo="a,handling=strict", Handling = "LENIENT"', True),
        ('foo; bar="x;y", handling=lenient; baz', True),
        ("return=minimal; handling=lenient", False),  # a parameter of another preference
        ("handling=strict, handling=lenient", False),  # the first counts
        ("handling=lenient, handling=strict", True),
        ("handling", False),
        ("handling=", False),
        ("lenient", False),
        ('"handling=lenient"', False),
        ("", False),
        (',,;=,"', False),
        ("handling*=x'y'z, handling=lenient", True),
    ],
)
def test_prefer_header_is_read_as_rfc_7240_says(header: str, expected: bool) -> None:
    assert is_preferred(header) is expected


@pytest.mark.parametrize("kind", ["array", "lines"])
def test_good_records_are_accepted_and_bad_ones_are_listed(api: Api, dataset: Dataset, kind: str) -> None:
    owner = dataset.project.owner
    set_limit(owner, 100)
    records = [record(amount=number) for number in range(5)]
    records[1] = record(amount="x")
    records[3] = record(extra=1, plan=...)
    response = api.batch(records, **LENIENT) if kind == "array" else api.batch(lines(*records), **LENIENT, **NDJSON)
    assert response.status_code == 202
    assert response.headers[APPLIED] == "handling=lenient"
    answer = response.json()
    assert list(answer) == ["success", "count", "status", "rejected", "errors"]
    assert (answer["success"], answer["count"], answer["status"], answer["rejected"]) == (True, 3, "queued", 2)
    assert answer["errors"][0] == {
        "error": "Invalid number field: amount",
        "code": "invalid_field",
        "index": 1,
        "field": "amount",
        "expected": "number",
        "received": "string",
    }
    assert places(answer)[1:] == [(3, "Extra field: extra"), (3, "Missing field: plan")]
    assert current(owner.pk).used == 3
    assert response.headers["RateLimit"].startswith('"monthly";r=97;')
    assert [row["amount"] for row in stored(dataset)] == [0, 2, 4]
    assert api.request("GET", response.headers["Location"]).json()["status"] == "stored"


def test_batch_without_a_bad_record_has_no_errors(api: Api, dataset: Dataset) -> None:
    for body, headers in (([record()] * 2, {}), (lines(record(), record()), NDJSON)):
        response = api.batch(body, **LENIENT, **headers)
        expected = {"success": True, "count": 2, "status": "queued", "rejected": 0, "errors": []}
        assert (response.status_code, response.json()) == (202, expected)
        assert response.headers[APPLIED] == "handling=lenient"
    assert in_stream(dataset) == 2


def test_without_the_preference_a_batch_is_all_or_nothing(api: Api, dataset: Dataset) -> None:
    for headers in ({}, {"Prefer": "handling=strict"}, {"Prefer": "respond-async"}):
        response = api.batch([record(), record(amount="x")], **headers)
        assert (response.status_code, response.headers.get(APPLIED)) == (400, None)
        assert "rejected" not in response.json()
    assert api.batch([record()]).json() == {"success": True, "count": 1, "status": "queued"}
    assert in_stream(dataset) == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ([record(amount="x"), 17], {}),
        (lines(record(amount="x"), b"{"), NDJSON),
        (lines(b"{", b"nonsense"), NDJSON),
        ("[]", {}),
        ("[1,", {}),
        ("[" + json.dumps(record()) + ',{"a":NaN}]', {}),
        ("{}", {}),
        ("", {}),
        ("", NDJSON),
        (" \n ", NDJSON),
        ([record()] * (configured.MAX_BATCH_RECORDS + 1), {}),
        (lines(*[record()] * (configured.MAX_BATCH_RECORDS + 1)), NDJSON),
    ],
)
def test_batch_without_a_good_record_gets_the_strict_error(
    api: Api, dataset: Dataset, body: Any, headers: dict[str, str]
) -> None:
    before = everything_in(own_client())
    strict, lenient = api.batch(body, **headers), api.batch(body, **headers, **LENIENT)
    assert lenient.status_code in (400, 413)
    assert (lenient.status_code, lenient.content) == (strict.status_code, strict.content)
    assert APPLIED not in lenient.headers
    assert everything_in(own_client()) == before
    assert in_stream(dataset) == 0


def test_broken_line_is_a_refused_record(api: Api, dataset: Dataset) -> None:
    good, deep = record(), b'{"context":' * 5000
    body = lines(b"{", good, b"\xff", deep, good, b"[]", json.dumps(good).encode()[:-1])
    answer = api.batch(body, **LENIENT, **NDJSON).json()
    assert (answer["count"], answer["rejected"]) == (2, 5)
    invalid = "Invalid JSON body"
    expected = [(0, invalid), (2, invalid), (3, invalid), (5, "Payload must be an object"), (6, invalid)]
    assert places(answer) == expected
    assert {problem["code"] for problem in answer["errors"]} == {"invalid_json", "not_an_object"}
    assert len(stored(dataset)) == 2


def test_twenty_problems_are_listed_and_all_are_counted(api: Api, dataset: Dataset) -> None:
    for bad, told in ((20, 20), (21, 20), (5000, 20)):
        answer = api.batch([record(), *[record(amount="x")] * bad], **LENIENT).json()
        assert (answer["count"], answer["rejected"], len(answer["errors"])) == (1, bad, told)
        assert answer.get("truncated") is (True if bad > 20 else None)
    assert len(stored(dataset)) == 3


def test_answer_is_short_even_if_the_names_are_long(api: Api) -> None:
    bad = [record(**{f"{number}" + "é" * 300: 1 for number in range(30)})] * 30
    response = api.batch([record(), *bad], **LENIENT)
    assert (response.json()["rejected"], response.json()["truncated"]) == (30, True)
    assert len(response.content) < 10_000


def test_last_value_of_a_duplicate_name_decides(api: Api, dataset: Dataset) -> None:
    twice = json.dumps(record()).replace('"amount": 42.5', '"amount": "x", "amount": 7')
    assert api.batch(f"[{twice}, 1]", **LENIENT).json()["count"] == 1
    assert api.batch(f"{twice}\n1", **LENIENT, **NDJSON).json()["count"] == 1
    assert [row["amount"] for row in stored(dataset)] == [7, 7]


def test_quota_takes_the_good_records_or_none(api: Api, dataset: Dataset) -> None:
    owner = dataset.project.owner
    set_limit(owner, 2)
    over = api.batch([record()] * 3 + [1], **LENIENT)
    assert (over.status_code, over.json()["quota"]["requested"]) == (429, 3)
    assert (current(owner.pk).used, in_stream(dataset)) == (0, 0)
    assert api.batch([record()] * 2 + [1], **LENIENT).status_code == 202
    assert current(owner.pk).used == 2


def is_replay(first: httpx.Response, again: httpx.Response) -> bool:
    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    names = ("Location", APPLIED)
    return first.content == again.content and all(first.headers[each] == again.headers[each] for each in names)


def test_retry_gets_the_first_answer_with_its_errors(api: Api, dataset: Dataset, project: Project) -> None:
    body = [record(), record(amount="x"), *[record(plan=number) for number in range(30)]]
    first = api.batch(body, Idempotency_Key="k", **LENIENT)
    assert (first.json()["count"], first.json()["rejected"]) == (1, 31)
    refused = len(refusals.latest(project.pk))
    before = everything_in(own_client())
    assert is_replay(first, api.batch(body, Idempotency_Key="k", **LENIENT))
    # The key and the body identify a request. The retry gets the first answer, even without the preference.
    assert is_replay(first, api.batch(body, Idempotency_Key="k"))
    assert everything_in(own_client()) == before
    assert api.batch(body[:-1], Idempotency_Key="k", **LENIENT).status_code == 422
    assert len(refusals.latest(project.pk)) in (refused, refused + 1)
    assert len(stored(dataset)) == 1
    assert is_replay(first, api.batch(body, Idempotency_Key="k", **LENIENT))


def test_retry_after_a_schema_change_gets_the_first_answer(api: Api, dataset: Dataset) -> None:
    body = [record(), record(amount="x")]
    first = api.batch(body, Idempotency_Key="k", **LENIENT)
    services.save_dataset(dataset, fields=[*FIELDS[:2], *FIELDS[3:]], author=dataset.project.owner)
    assert api.batch(body, **LENIENT).status_code == 400, "no record is good any more"
    assert is_replay(first, api.batch(body, Idempotency_Key="k", **LENIENT))
    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    assert is_replay(first, api.batch(body, Idempotency_Key="k", **LENIENT))


def test_strict_answer_is_replayed_to_a_lenient_retry(api: Api) -> None:
    first = api.batch([record()], Idempotency_Key="k")
    again = api.batch([record()], Idempotency_Key="k", **LENIENT)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert APPLIED not in again.headers


def test_strict_refusal_leaves_the_key_for_a_lenient_retry(api: Api, dataset: Dataset) -> None:
    body = [record(), 1]
    assert api.batch(body, Idempotency_Key="k").status_code == 400
    response = api.batch(body, Idempotency_Key="k", **LENIENT)
    assert (response.status_code, response.headers.get("Idempotent-Replayed")) == (202, None)
    assert in_stream(dataset) == 1


def test_lost_reply_of_redis_does_not_change_the_answer(api: Api, dataset: Dataset) -> None:
    api.one(record())
    body = [record(country="A"), 1]
    with replies_lost(b"EVALSHA") as lost:
        response = api.batch(body, Idempotency_Key="k", **LENIENT)
    assert lost
    assert (response.status_code, response.json()["count"], response.json()["rejected"]) == (202, 1, 1)
    assert [row["country"] for row in stored(dataset)] == ["RO", "A"]


def test_refused_records_are_in_the_refusal_log(api: Api, project: Project, key: Any) -> None:
    body = lines(record(), record(amount="x"), b"{", *[17] * 40)
    assert api.batch(body, X_Request_Id="t1", **LENIENT, **NDJSON).json()["rejected"] == 42
    log = refusals.latest(project.pk)
    assert {(each.trace_id, each.token_id, each.status, each.form) for each in log} == {
        ("t1", key.token_id.hex, 202, "single")
    }
    assert [each.index for each in reversed(log)] == list(range(1, MAX_PROBLEMS + 1))
    assert [(each.code, each.body) for each in reversed(log)][1:3] == [("invalid_json", b"{"), ("not_an_object", b"17")]
    assert json.loads(log[-1].body)["amount"] == "x"


def test_refused_records_are_counted(api: Api, project: Project) -> None:
    api.batch([record(), 1, 2], **LENIENT)
    api.batch([record(), 1], **LENIENT)
    metrics = api.request("GET", "/metrics").text
    assert "ingest_rejected_records_total 3.0" in metrics
    assert "ingest_accepted_records_total 2.0" in metrics
    assert 'code="rejected_records"' not in metrics
    by_hour = redis.client().hgetall(redis_keys.refused_by_hour(project.pk))
    assert [(place.partition(b":")[2], count) for place, count in by_hour.items()] == [(b"rejected_records", b"3")]


def test_validate_says_what_a_lenient_batch_would(api: Api, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.pk}/validate"
    before = everything_in(own_client())
    response = api.post(path, [record(), 1, record()], **LENIENT)
    assert response.headers[APPLIED] == "handling=lenient"
    answer = response.json()
    assert (answer["valid"], answer["count"], answer["rejected"]) == (False, 2, 1)
    assert places(answer) == [(1, "Payload must be an object")]
    good = api.post(path, lines(record()), "application/x-ndjson", **LENIENT).json()
    assert good == {"valid": True, "count": 1, "rejected": 0, "errors": []}
    assert api.post(path, [1], **LENIENT).status_code == 400
    single = api.post(path, record(), **LENIENT)
    assert (single.json(), single.headers.get(APPLIED)) == ({"valid": True, "count": 1}, None)
    assert api.post(path, {"a": 1}, **LENIENT).status_code == 400
    assert everything_in(own_client()) == before


def test_a_single_record_ignores_the_preference(api: Api) -> None:
    assert api.one(record(amount="x"), **LENIENT).status_code == 400
    accepted = api.one(record(), **LENIENT)
    assert (accepted.json(), accepted.headers.get(APPLIED)) == ({"success": True, "status": "queued"}, None)
