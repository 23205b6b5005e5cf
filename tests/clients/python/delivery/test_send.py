"""`send`: one request, its receipt and its errors, against the service in this process."""

import dataclasses
import enum
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from dataset_ingest import (
    AuthenticationError,
    DatasetError,
    OutcomeUnknownError,
    QuotaExceededError,
    ServiceUnavailableError,
    ValidationError,
)
from django.contrib.auth.models import User
from pytest_django import Settings

from datasets import services
from datasets.models import ApiKey, Dataset, Project
from ingest.storing.ledger import balance
from quotas.services import set_limit
from tests.clients.python.conftest import MakeClient
from tests.clients.python.seen import Seen, refuse
from tests.conftest import record, stored
from tests.support.sending.asgi import Transport


def test_send_returns_a_receipt_and_the_records_are_stored(make_client: MakeClient, dataset: Dataset) -> None:
    client = make_client()
    receipt = client.send([record(amount=1.5), record(amount=2)])
    assert (receipt.count, receipt.is_repeated, len(receipt.locations)) == (2, False, 1)
    assert client.send(record(amount=3.0)).count == 1
    assert [row["amount"] for row in stored(dataset)] == [1.5, 2.0, 3.0]


def test_python_values_are_written_in_the_services_form(make_client: MakeClient, dataset: Dataset) -> None:
    moment = datetime(2026, 6, 10, 12, 58, 0, 250_000, UTC)
    make_client().send(record(timestamp=moment, signup_at=moment))
    (row,) = stored(dataset)
    assert (row["timestamp"], row["signup_at"]) == (moment, moment)


def test_a_record_may_be_an_instance_of_a_model(make_client: MakeClient, project: Project, dataset: Dataset) -> None:
    project.default_dataset = dataset
    services.save_project(project, changed=["default_dataset"])

    @dataclasses.dataclass
    class Signup:
        country: str
        plan: str
        amount: float
        active: bool
        signup_at: datetime
        timestamp: datetime = datetime(2026, 6, 10, tzinfo=UTC)
        context: dict[str, Any] = dataclasses.field(default_factory=dict)

    moment = datetime(2026, 6, 1, tzinfo=UTC)
    make_client(dataset=Signup).send(Signup("RO", "pro", 42.5, True, moment))
    assert stored(dataset)[0]["country"] == "RO"


def test_a_refusal_of_the_service_says_what_it_expected(make_client: MakeClient, dataset: Dataset) -> None:
    fields = {"country": "string", "plan": "string", "amount": "string", "active": "boolean", "signup_at": "timestamp"}
    client = make_client(dataset={"id": dataset.pk, "fields": fields})
    with pytest.raises(ValidationError, match=r"field: amount \(expected number, received string\).* \[request "):
        client.send(record(amount="42.5"))


def test_nothing_is_sent_if_a_record_is_invalid(make_client: MakeClient) -> None:
    seen = Seen()
    with pytest.raises(ValidationError) as caught:
        make_client(transport=seen).send([record(), record(amount="12,5"), record(plan=..., extra=1)])
    error = caught.value
    assert [(each.index, each.error, each.expected, each.received) for each in error.problems] == [
        (1, "Invalid number field: amount", "number", "string"),
        (2, "Extra field: extra", "nothing", "number"),
        (2, "Missing field: plan", "string", "nothing"),
    ]
    assert (error.indexes, error.code, error.status) == ((1, 2), "invalid_field", None)
    assert "dataset" in str(error)
    assert seen.requests == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("nan")]}, "\ud800", object()])
def test_what_json_cannot_hold_is_refused(make_client: MakeClient, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        make_client().send(record(context={"value": value}))
    assert caught.value.code == "invalid_json"


@dataclasses.dataclass
class Tags:
    """An object in a record."""

    names: Any


@pytest.mark.parametrize("value", [{1: 2}, {1.5: 1}, {"a", "b"}, frozenset("a"), b"a", bytearray(b"a")])
def test_a_value_that_json_would_change_is_refused(make_client: MakeClient, value: Any) -> None:
    for context in ({"a": value}, {"a": [{"b": (value,)}]}, {"a": Tags(value)}):
        for send in (make_client().send, make_client().enqueue):
            with pytest.raises(ValidationError, match=r"a text|a list") as refused:
                send(record(context=context))
            assert refused.value.problems[0].code == "invalid_json"
    with pytest.raises(ValidationError) as refused:
        make_client().send([record(), record(context={"a": value})])
    assert refused.value.indexes == (1,)


class Name(enum.Enum):
    """Names that msgspec would write as texts."""

    COUNTRY = "country"


def test_a_name_that_json_would_change_is_refused(make_client: MakeClient) -> None:
    """Otherwise a record could have the same name twice, and one of the two values would be lost."""
    twice: dict[Any, Any] = {**record(), Name.COUNTRY: "another"}
    for send in (make_client().send, make_client().enqueue):
        with pytest.raises(ValidationError, match="A name in an object must be a text") as refused:
            send(twice)
        assert refused.value.problems[0].code == "invalid_json"
    with pytest.raises(ValidationError) as refused:
        make_client().send([record(), twice])
    assert refused.value.indexes == (1,)


def test_flush_refuses_an_unknown_until(make_client: MakeClient) -> None:
    with pytest.raises(ValueError, match="must be"):
        make_client().flush("bad")  # type: ignore[arg-type]


def test_a_large_batch_is_compressed_and_a_small_one_is_not(make_client: MakeClient) -> None:
    seen = Seen()
    client = make_client(transport=seen)
    client.send(record())
    client.send([record()] * 20)
    assert [request.headers.get("content-encoding") for request in seen.requests] == [None, "gzip"]


def test_a_batch_above_the_limits_is_split(make_client: MakeClient, settings: Settings, dataset: Dataset) -> None:
    seen = Seen()
    client = make_client(transport=seen)
    assert client.send([record()] * 10_001).count == 10_001
    assert seen.records() == [10_000, 1]
    settings.MAX_BATCH_RECORDS = 3
    receipt = client.send([record()] * 5)
    assert seen.records()[2:] == [5, 2, 3]
    assert (receipt.count, len(receipt.locations)) == (5, 2)
    assert len(set(seen.keys())) == 5
    assert balance(dataset).accepted == 10_006


def test_a_retry_keeps_the_key_and_stores_once(make_client: MakeClient, dataset: Dataset) -> None:
    def lose_the_first_answer(request: httpx.Request) -> httpx.Response | None:
        if len(seen.requests) == 1:
            Transport.handle_request(seen, request)
            raise httpx.ReadError("the connection broke")
        return None

    seen = Seen(lose_the_first_answer)
    receipt = make_client(transport=seen).send([record()] * 3)
    assert receipt.is_repeated
    assert len(set(seen.keys())) == 1
    assert len(seen.requests) == 2
    assert len(stored(dataset)) == 3


def test_a_refused_key_is_an_authentication_error(make_client: MakeClient, key: ApiKey) -> None:
    client = make_client()
    services.revoke_key(key)
    with pytest.raises(AuthenticationError) as caught:
        client.send(record())
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.request_id


def test_an_exceeded_quota_says_when_it_ends(make_client: MakeClient, owner: User, dataset: Dataset) -> None:
    set_limit(owner, 2)
    client = make_client()
    client.send([record()] * 2)
    with pytest.raises(QuotaExceededError) as caught:
        client.send([record()] * 3)
    error = caught.value
    assert (error.quota["limit"], error.quota["used"], error.quota["requested"]) == (2, 2, 3)
    assert (error.indexes, error.dataset_id) == ((0, 1, 2), dataset.pk)
    assert error.resets_at
    assert error.retry_after


def test_an_archived_dataset_is_refused(make_client: MakeClient, dataset: Dataset) -> None:
    client = make_client()
    dataset.is_archived = True
    services.save_dataset(dataset, changed=["is_archived"])
    with pytest.raises(DatasetError) as caught:
        client.send(record())
    assert caught.value.code == "dataset_schema_not_found"


def test_a_service_that_is_away_is_unavailable(make_client: MakeClient) -> None:
    client = make_client(transport=Seen(refuse), max_retries=2)
    with pytest.raises(ServiceUnavailableError, match="connection refused"):
        client.send(record())


def test_an_answer_that_never_came_leaves_the_outcome_unknown(make_client: MakeClient) -> None:
    def break_off(request: httpx.Request) -> httpx.Response:
        if len(seen.requests) == 1:
            raise httpx.ReadTimeout("timed out")
        raise httpx.ConnectError("connection refused")

    seen = Seen(break_off)
    with pytest.raises(OutcomeUnknownError):
        make_client(transport=seen, max_retries=3).send(record())
    assert len(seen.requests) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost:8000"},
        {"base_url": ""},
        {"api_key": ""},
        {"api_key": "ключ"},
        {"api_key": "a\nb"},
    ],
    ids=str,
)
def test_a_wrong_address_or_key_is_refused_at_once(make_client: MakeClient, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must begin with http|visible ASCII"):
        make_client(**wrong)


def test_a_key_may_end_with_a_line_feed(make_client: MakeClient, arguments: dict[str, Any]) -> None:
    assert make_client(api_key=f"{arguments['api_key']}\n").send(record()).count == 1


def test_an_address_may_have_a_path_and_a_balancer_may_set_a_cookie(make_client: MakeClient, dataset: Dataset) -> None:
    def balance_load(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, headers={"Set-Cookie": "server=2"}, json={"status": "accepted", "count": 1})

    seen = Seen(balance_load)
    client = make_client(base_url="https://example.com:8443/our ingest/", transport=seen, timeout=7.0)
    client.send(record())
    client.send(record())
    first, second = seen.requests
    for request in (first, second):
        assert str(request.url) == f"https://example.com:8443/our%20ingest/datasets/{dataset.pk}/batch"
        assert request.headers["Host"] == "example.com:8443"
        assert request.headers["User-Agent"].startswith("dataset-ingest-client/")
        assert request.extensions["timeout"]["read"] == 7.0
    assert ("Cookie" in first.headers, second.headers["Cookie"]) == (False, "server=2")
    assert first.headers.keys() == second.headers.keys() - {"cookie"}
