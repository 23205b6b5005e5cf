"""Datasets over the management API: every row of the documentation's table, and the effects on the next request."""

import gzip

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import override_settings

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from tests.conftest import Api
from tests.datasets.api.conftest import Management, client_of, error_of
from tests.support.sending.at_once import at_once
from tests.support.servers.outages import redis_away

RECORD = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "country": "RO"}


def changes() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


# -- projects -----------------------------------------------------------------------------------------


def test_only_a_permitted_user_creates_a_project(alice: User, client: Management) -> None:
    assert error_of(client.call("POST", "/projects", {"slug": "new"})) == (403, "Not allowed", "not_allowed")
    alice.user_permissions.add(Permission.objects.get(codename="add_project"))
    made = client.call("POST", "/projects", {"slug": "new", "name": "Nouveau"})
    assert made.status_code == 201
    assert made.json()["owner"] == "alice"
    assert [each["slug"] for each in client.ok("GET", "/projects")["projects"]] == ["shop", "new"]
    assert Project.objects.get(slug="new").owner == alice
    assert error_of(client.call("POST", "/projects", {"slug": "new"})) == (409, "Slug cannot be used", "slug_conflict")
    assert error_of(client.call("POST", "/projects", {"slug": "a b"}))[0] == 400


# -- list and create ----------------------------------------------------------------------------------


def test_a_new_dataset_waits_for_its_schema(client: Management, shop: Project) -> None:
    response = client.call("POST", "/datasets/shop", {"name": "Orders"})
    shown = response.json()
    expected = {"slug": "orders", "name": "Orders", "description": "", "status": "pending_schema", "is_default": False}
    assert response.status_code == 201
    assert shown == {"id": shop.datasets.get().pk, **expected, "created_at": shown["created_at"]}
    assert list(shown) == ["id", "slug", "name", "description", "status", "is_default", "created_at"]
    full = {"name": "Visits", "slug": "v", "description": "of the site"}
    assert full.items() <= client.ok("POST", "/datasets/shop/", full).items()
    assert [each["slug"] for each in client.ok("GET", "/datasets/shop")["datasets"]] == ["orders", "v"]
    assert changes()[0] == "Added. By the token “write of alice”."
    assert LogEntry.objects.latest("pk").user == shop.owner


def test_a_list_has_pages(client: Management, shop: Project) -> None:
    for number in range(5):
        services.create_dataset(project=shop, name=f"D{number}")
    found, path = [], "/datasets/shop?limit=2"
    for _ in range(3):
        page = client.ok("GET", path)
        found += [each["name"] for each in page["datasets"]]
        path = (page["next"] or "").removeprefix("/api")
    assert found == ["D0", "D1", "D2", "D3", "D4"]
    assert path == ""
    for wrong in ("limit=0", "limit=1001", "limit=x", "limit=", "cursor=x", "cursor=cD14"):
        response = client.call("GET", f"/datasets/shop?{wrong}")
        assert error_of(response) == (400, "Invalid request", "invalid_request")
        assert response.json()["errors"][0]["field"] == wrong.partition("=")[0]


def test_a_slug_is_used_once_in_a_project(client: Management, shop: Project) -> None:
    client.ok("POST", "/datasets/shop", {"name": "Orders"})
    taken = (409, "Slug cannot be used", "slug_conflict")
    assert error_of(client.call("POST", "/datasets/shop", {"name": "orders"})) == taken
    other = client.ok("POST", "/datasets/shop", {"name": "Other"})["id"]
    assert error_of(client.call("PATCH", f"/datasets/shop/{other}", {"slug": "orders"})) == taken


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a", "slug": "a b"}, "slug"),
        ({"name": "a", "slug": 7}, "slug"),
        ({"name": "a", "project": 1}, "project"),
        (["a"], None),
        ("a", None),
    ],
)
def test_a_wrong_body_is_refused_with_the_field(client: Management, body: object, field: str | None) -> None:
    response = client.call("POST", "/datasets/shop", body)
    assert error_of(response) == (400, "Invalid request", "invalid_request")
    assert response.json()["errors"][0].get("field") == field
    assert not Dataset.objects.exists()


def test_a_body_that_is_not_json_is_refused(client: Management) -> None:
    invalid = (400, "Invalid JSON body", "invalid_json")
    twice, deep = b'{"name": "a", "name": "b"}', b"[" * 100_000
    for body in (b"{", b"", b"\xff", b'{"name": NaN}', twice, deep, b'{"name": ' + b"9" * 5000 + b"}"):
        assert error_of(client.post("/api/datasets/shop", body)) == invalid, body[:30]
    assert error_of(client.post("/api/datasets/shop", b"name=a", content_type="text/plain"))[0] == 415
    large = client.post("/api/datasets/shop", b'{"name": "' + b"x" * 3_000_000 + b'"}')
    assert error_of(large) == (413, "Request body too large", "body_too_large")
    chunked = client.request("POST", "/api/datasets/shop", content=iter([b"{}"]))
    assert error_of(chunked) == (411, "Length required", "length_required")


def test_a_compressed_body_has_its_own_error(client: Management) -> None:
    for encoding in ("gzip", "GZIP", "zstd", "br"):
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        answer = client.request("POST", "/api/datasets/shop", content=gzip.compress(b'{"name":"a"}'), headers=headers)
        assert error_of(answer) == (415, "Unsupported content encoding", "unsupported_content_encoding")
        assert (answer.json()["expected"], answer.json()["received"]) == ("identity", encoding)
        assert "without a Content-Encoding" in answer.json()["detail"]
    assert client.call("POST", "/datasets/shop", {"name": "a"}, Content_Encoding="identity").status_code == 201


def test_an_encoded_slash_in_a_path_is_refused(client: Management) -> None:
    path = f"/datasets/shop/{client.ok('POST', '/datasets/shop', {'name': 'Orders'})['id']}"
    for wrong in (path.replace("shop/", "shop%2F"), path.replace("shop/", "shop%2f"), "/projects%2F"):
        assert error_of(client.call("GET", wrong)) == (404, "Not found", "not_found")
    assert client.call("GET", f"{path}?a=%2F").status_code == 200


def test_too_many_open_datasets_are_refused(client: Management, shop: Project) -> None:
    services.create_dataset(project=shop, name="One")
    with override_settings(DATASETS_PER_PROJECT=1):
        response = client.call("POST", "/datasets/shop", {"name": "Two"})
    assert error_of(response)[0] == 400
    assert "already has 1 open datasets" in response.json()["errors"][0]["detail"]


# -- one dataset --------------------------------------------------------------------------------------


def test_a_dataset_is_shown_and_changed(client: Management, shop: Project) -> None:
    made = client.ok("POST", "/datasets/shop", {"name": "Orders"})
    path = f"/datasets/shop/{made['id']}"
    assert client.ok("GET", path) == made
    changed = {"name": "Sales", "slug": "sales", "description": "all", "is_default": True}
    assert client.ok("PATCH", path, changed) == {**made, **changed}
    shop.refresh_from_db()
    assert shop.default_dataset_id == made["id"]
    assert "Name: “Orders” → “Sales”." in changes()[-1]
    assert "Is default: “no” → “yes”. By the token" in changes()[-1]
    before = len(changes())
    assert client.ok("PATCH", path, {})["name"] == "Sales"
    assert len(changes()) == before
    assert client.ok("PATCH", path, {"is_default": False})["is_default"] is False
    for wrong in ({"archived": "yes"}, {"is_default": 1}, {"status": "active"}, {"id": 7}):
        assert error_of(client.call("PATCH", path, wrong))[0] == 400


def test_an_archived_dataset_accepts_nothing_more(client: Management, shop: Project) -> None:
    dataset = client.ok("POST", "/datasets/shop", {"name": "Orders"})["id"]
    client.ok("POST", f"/datasets/shop/{dataset}/schema", {"country": "string"})
    sender = Api(issue_token(services.create_key(project=shop, name="k")), Dataset.objects.get())
    assert sender.one(RECORD).status_code == 202
    assert client.call("DELETE", f"/datasets/shop/{dataset}").status_code == 204
    assert sender.one(RECORD).status_code == 404
    assert client.ok("GET", f"/datasets/shop/{dataset}")["status"] == "archived"
    assert "Status: “active” → “archived”." in changes()[-1]
    assert client.call("DELETE", f"/datasets/shop/{dataset}").status_code == 204
    assert client.ok("PATCH", f"/datasets/shop/{dataset}", {"archived": False})["status"] == "active"
    assert sender.one(RECORD).status_code == 202


def test_an_invalid_or_unknown_dataset_is_refused(client: Management) -> None:
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        for wrong in ("0", "-1", "abc", "1.5", "٣"):
            response = client.call(method, f"/datasets/shop/{wrong}", body)
            assert error_of(response) == (400, "Invalid dataset ID", "invalid_dataset_id")
        for missing in (424242, "9" * 30):
            response = client.call(method, f"/datasets/shop/{missing}", body)
            assert error_of(response) == (404, "Dataset not found", "dataset_not_found")


# -- two writers, repetitions -------------------------------------------------------------------------


def test_two_writers_do_not_overwrite_each_other(client: Management) -> None:
    path = f"/datasets/shop/{client.ok('POST', '/datasets/shop', {'name': 'Orders'})['id']}"
    etag = client.call("GET", path).headers["ETag"]
    assert client.call("GET", path, If_None_Match=etag).status_code == 304
    assert error_of(client.call("GET", path, If_Match='"another"'))[0] == 412
    first = client.call("PATCH", path, {"name": "First"}, If_Match=etag)
    assert first.status_code == 200
    late = client.call("PATCH", path, {"name": "Second"}, If_Match=etag)
    assert error_of(late) == (412, "Precondition failed", "precondition_failed")
    assert late.headers["ETag"] == first.headers["ETag"] != etag
    assert error_of(client.call("DELETE", path, If_Match=etag))[0] == 412
    for no_etag in (etag.strip('"'), first.headers["ETag"].strip('"'), "garbage", ""):
        refused = client.call("PATCH", path, {"name": "Second"}, If_Match=no_etag)
        assert error_of(refused) == (412, "Precondition failed", "precondition_failed")
        assert refused.json()["detail"] == "If-Match has no ETag. Send the ETag of an earlier answer, with its quotes."
    assert client.ok("GET", path)["name"] == "First"
    assert client.call("PATCH", path, {"name": "Second"}, If_Match=first.headers["ETag"]).status_code == 200


def test_a_repeated_post_gets_the_first_answer(client: Management, shop: Project) -> None:
    first = client.call("POST", "/datasets/shop", {"name": "Orders"}, Idempotency_Key="a")
    again = client.call("POST", "/datasets/shop", {"name": "Orders"}, Idempotency_Key="a")
    assert (again.status_code, again.json()) == (201, first.json())
    assert (again.headers["Idempotent-Replayed"], "Idempotent-Replayed" in first.headers) == ("true", False)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert shop.datasets.count() == 1
    for path, body in (("/datasets/shop", {"name": "B"}), ("/keys/shop", {"name": "Orders"})):
        response = client.call("POST", path, body, Idempotency_Key="a")
        expected = (422, "Idempotency-Key was used with a different body", "idempotency_key_reused")
        assert error_of(response) == expected
    assert error_of(client.call("POST", "/datasets/shop", {"name": "B"}, Idempotency_Key="a b"))[0] == 400
    other = client_of(User.objects.create_superuser("root"))
    assert other.call("POST", "/datasets/shop", {"name": "B"}, Idempotency_Key="a").status_code == 201
    with override_settings(IDEMPOTENCY_TTL_SECONDS=0):
        assert error_of(client.call("POST", "/datasets/shop", {"name": "Orders"}, Idempotency_Key="a"))[0] == 409


def test_a_refused_post_is_not_remembered(client: Management) -> None:
    assert error_of(client.call("POST", "/datasets/shop", {"name": ""}, Idempotency_Key="a"))[0] == 400
    with redis_away():
        response = client.call("POST", "/datasets/shop", {"name": "Orders"}, Idempotency_Key="b")
    assert error_of(response) == (503, "Service unavailable", "service_unavailable")
    assert not Dataset.objects.exists()
    assert client.call("POST", "/datasets/shop", {"name": "Orders"}, Idempotency_Key="b").status_code == 201
    assert client.call("POST", "/datasets/shop", {"name": "Visits"}, Idempotency_Key="a").status_code == 201


def test_simultaneous_repetitions_make_one_dataset(client: Management, shop: Project) -> None:
    answers = at_once([lambda: client.call("POST", "/datasets/shop", {"name": "Orders"}, Idempotency_Key="a")] * 4)
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.content for answer in answers}) == 1
    assert sorted("Idempotent-Replayed" in answer.headers for answer in answers) == [False, True, True, True]
    assert shop.datasets.count() == 1


def test_one_of_two_simultaneous_equal_slugs_is_refused(client: Management, shop: Project) -> None:
    answers = at_once([lambda: client.call("POST", "/datasets/shop", {"name": "Orders"})] * 2)
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert shop.datasets.count() == 1
