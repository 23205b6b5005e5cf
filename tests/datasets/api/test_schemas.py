"""Schemas over the management API: it accepts the same schemas as the admin. They apply to the next request."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry

from config.common import clock
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from tests.conftest import Api
from tests.datasets.api.conftest import Management, error_of

RECORD = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "country": "RO"}


@pytest.fixture
def dataset(shop: Project) -> Dataset:
    return services.create_dataset(project=shop, name="Orders")


@pytest.fixture
def path(dataset: Dataset) -> str:
    return f"/datasets/shop/{dataset.pk}/schema"


@pytest.fixture
def sender(shop: Project, dataset: Dataset) -> Api:
    return Api(issue_token(services.create_key(project=shop, name="k")), dataset)


def test_without_a_schema_the_answer_says_so(client: Management, path: str) -> None:
    assert client.ok("GET", path) == {"schema": None, "status": "pending_schema"}
    missing = (404, "Dataset schema not found", "dataset_schema_not_found")
    assert error_of(client.call("GET", f"{path}?version=1")) == missing
    assert client.ok("GET", f"{path}/versions") == {"versions": [], "next": None}


def test_a_published_schema_is_in_force_on_the_next_request(client: Management, path: str, sender: Api) -> None:
    assert sender.one(RECORD).status_code == 404
    first = client.call("POST", path, {"fields": {"country": "string"}})
    shown = first.json()
    assert first.status_code == 201
    created = shown["schema"]["created_at"]
    assert shown == {
        "schema": {"version": 1, "fields": {"country": "string"}, "created_at": created},
        "status": "active",
    }
    assert sender.one(RECORD).status_code == 202
    same = client.call("POST", path, {"country": "string"})
    assert (same.status_code, same.json()) == (200, shown)
    second = client.call("POST", path, {"country": "string", "amount": "number"})
    assert (second.status_code, second.json()["schema"]["version"]) == (200, 2)
    assert sender.one(RECORD).json()["error"] == "Missing field: amount"
    assert client.ok("GET", path) == second.json()
    assert client.ok("GET", f"{path}?version=1") == shown
    assert [each["version"] for each in client.ok("GET", f"{path}/versions")["versions"]] == [1, 2]
    messages = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    token = "By the token “write of alice”."
    assert messages == [f"Schema: added country. {token}", f"Schema: added amount. {token}"]
    assert Dataset.objects.get().latest_version().created_by.username == "alice"  # type: ignore[union-attr]


def test_every_form_of_a_schema_is_accepted(client: Management, path: str) -> None:
    fields = {
        "country": {"type": "string", "description": "ISO 3166"},
        "plan": {"type": "enum", "values": ["free", "pro"]},
        "price": "decimal(10,2)",
        "note": "string?",
        "size": {"type": "number", "optional": True, "unit": "kg"},
    }
    assert client.ok("POST", path, {"fields": fields})["schema"]["fields"] == fields
    rows = [
        {"name": "country", "type": "string", "description": "ISO 3166"},
        *({"name": n, "type": "string"} for n in "ab"),
    ]
    assert list(client.ok("POST", path, {"fields": rows})["schema"]["fields"]) == ["country", "a", "b"]
    named = {"fields": {"fields": "string"}}
    assert client.ok("POST", path, named)["schema"]["fields"] == {"fields": "string"}
    assert client.ok("POST", path, {"fields": {}})["schema"]["fields"] == {}


def test_a_change_that_does_not_fit_the_table_is_refused(client: Management, path: str) -> None:
    client.ok("POST", path, {"country": "string", "amount": "number"})
    response = client.call("POST", path, {"country": "number", "Amount": "number"})
    assert error_of(response) == (409, "Incompatible schema", "incompatible_schema")
    first, second = response.json()["errors"]
    assert (first["field"], first["expected"], first["received"]) == ("country", "string", "number")
    assert response.json()["field"] == "country"
    assert "stored as string and cannot become number" in first["detail"]
    assert "use that spelling" in second["detail"]
    assert client.ok("GET", path)["schema"]["version"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"fields": []},
        [{"name": "a", "type": "string"}],
        "a",
        5,
        {"fields": {"a": "nonsense"}},
        {"a": "nonsense"},
        {"timestamp": "string"},
        {"fields": {"a b": "string"}},
        {"fields": {"a": "string"}, "more": 1},
        {"fields": {"a": "string"}, "previous_valid_until": "soon"},
        {"fields": {"a": "string"}, "previous_valid_until": "2999-01-01T00:00:00Z"},
        {"fields": {f"f{number}": "string" for number in range(201)}},
        {"fields": {"\ud800": "\ud800"}},
    ],
)
def test_a_wrong_schema_is_refused(client: Management, path: str, body: object) -> None:
    response = client.call("POST", path, body)
    assert error_of(response) == (400, "Invalid request", "invalid_request")
    assert response.json()["errors"][0]["detail"]
    assert client.ok("GET", path)["schema"] is None


def test_an_empty_list_of_fields_removes_no_field(client: Management, path: str) -> None:
    client.ok("POST", path, {"country": "string"})
    bodies: list[object] = [[], {}, {"fields": []}, {"fields": [], "more": 1}]
    answers = [client.call("POST", path, body) for body in bodies]
    assert [answer.status_code for answer in answers] == [400] * 4
    assert len({answer.text for answer in answers}) == 1
    assert client.ok("GET", path)["schema"]["version"] == 1


def test_the_version_before_may_stay_valid_for_a_time(client: Management, path: str, sender: Api) -> None:
    client.ok("POST", path, {"country": "string"})
    until = (clock.now() + timedelta(hours=1)).isoformat()
    body = {"fields": {"country": "string", "amount": "number"}, "previous_valid_until": until}
    shown = client.ok("POST", path, body)["schema"]
    assert shown["previous_valid_until"].startswith(until[:19])
    assert sender.one(RECORD).status_code == 202
    assert sender.one({**RECORD, "amount": 1}).status_code == 202


def test_two_publishers_do_not_overwrite_each_other(client: Management, path: str) -> None:
    nothing = client.call("GET", path).headers["ETag"]
    first = client.call("POST", path, {"a": "string"}, If_Match=nothing)
    assert first.status_code == 201
    late = client.call("POST", path, {"b": "string"}, If_Match=nothing)
    assert error_of(late) == (412, "Precondition failed", "precondition_failed")
    etag = first.headers["ETag"]
    assert client.call("GET", path, If_None_Match=etag).status_code == 304
    assert client.call("POST", path, {"b": "string"}, If_Match=etag).status_code == 200


def test_a_repeated_publication_has_the_first_etag(client: Management, path: str) -> None:
    first, again = (client.call("POST", path, {"a": "string"}, Idempotency_Key="k") for _ in range(2))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.json(), again.headers["ETag"]) == (first.json(), first.headers["ETag"])
    assert client.call("POST", path, {"b": "string"}, If_Match=again.headers["ETag"]).status_code == 200


def test_the_legacy_path_is_the_default_dataset(client: Management, path: str, shop: Project, dataset: Dataset) -> None:
    legacy = "/datasets/shop/schema"
    missing = (404, "Dataset not found", "dataset_not_found")
    for method, body in (("GET", None), ("POST", {"a": "string"})):
        assert error_of(client.call(method, legacy, body)) == missing
    shop.default_dataset = dataset
    shop.save()
    made = client.call("POST", legacy, {"fields": {"a": "string"}})
    assert made.status_code == 201
    assert client.ok("GET", legacy) == client.ok("GET", path) == made.json()


def test_a_wrong_version_is_refused(client: Management, path: str) -> None:
    for wrong in ("", "x", "-1", "1.0", "%00"):
        response = client.call("GET", f"{path}?version={wrong}")
        assert error_of(response) == (400, "Invalid request", "invalid_request")


def test_a_version_that_does_not_exist_is_not_found(client: Management, path: str) -> None:
    for missing in ("0", "1000000000", "1073741824", "2147483648", "9" * 30, "9" * 5000):
        response = client.call("GET", f"{path}?version={missing}")
        assert error_of(response) == (404, "Dataset schema not found", "dataset_schema_not_found"), missing
