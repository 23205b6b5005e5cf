"""The whole management API: keys, ledger and quota. On each path, one tenant learns nothing about another."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from config.common import clock
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, ManagementAnswer, Project
from datasets.schemas.fields import Field
from ingest.api.management import urlpatterns
from quotas.period import bounds, period_of
from quotas.services import set_limit
from tests.conftest import Api, stored
from tests.datasets.api.conftest import Management, alice, client, client_of, error_of, shop
from tests.support.documents import table
from tests.support.servers.outages import redis_away

__all__ = ["alice", "client", "shop"]  # fixtures

RECORD = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "country": "RO"}
SECRET = "zebra7f3"
BODIES: dict[str, dict[str, object]] = {
    "/projects": {"slug": "another"},
    "/datasets": {"name": "Another"},
    "/schema": {"fields": {"country": "string", "more": "string"}},
    "/keys": {"name": "another"},
    "/query": {"limit": 1},
}


class Tenant:
    """A staff user with a project and one object of each kind."""

    def __init__(self, word: str) -> None:
        self.user = User.objects.create_user(word, is_staff=True)
        self.project = services.create_project(slug=word, owner=self.user, name=word)
        fields = [Field("country", "string", word)]
        self.dataset = services.create_dataset(project=self.project, name=f"Dataset {word}", fields=fields)
        self.project.default_dataset = self.dataset
        services.save_project(self.project, changed=["default_dataset"])
        self.key = services.create_key(project=self.project, name=f"Key {word}")

    def everything(self) -> list[object]:
        """Return all rows of this tenant."""
        of_project = [model.objects.filter(project=self.project).order_by("pk").values() for model in (Dataset, ApiKey)]
        versions = self.dataset.versions.order_by("pk").values()
        rows = [Project.objects.filter(pk=self.project.pk).values(), *of_project, versions]
        return [list(each) for each in rows]


@pytest.fixture
def zebra(transactional_db: None) -> Tenant:
    return Tenant(SECRET)


@pytest.fixture
def heron(transactional_db: None) -> Tenant:
    return Tenant("heron")


def paths() -> Iterator[tuple[str, list[str]]]:
    """Yield each documented path with its methods."""
    for pattern in urlpatterns:
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", str(pattern.pattern)).strip("^$").removesuffix("/?")
        view = pattern.callback.view_class  # type: ignore[attr-defined]
        yield f"/{path}", [name.upper() for name in view.http_method_names if hasattr(view, name)]


def calls() -> list[tuple[str, str]]:
    """Return every method and path."""
    return [(method, path) for path, methods in paths() for method in methods]


def filled(path: str, project: Tenant, inside: Tenant) -> str:
    """Return a path with the slug of one tenant and the IDs of another."""
    values = {"project_slug": project.project.slug, "dataset_id": inside.dataset.pk, "key_id": inside.key.pk}
    return re.sub(r"<(\w+)>", lambda name: str(values[name[1]]), path)


def body_of(path: str) -> dict[str, object]:
    return next((body for part, body in reversed(BODIES.items()) if part in path), {})


# -- the documents ------------------------------------------------------------------------------------


def test_every_path_is_documented() -> None:
    documented = {tuple(row[0].strip("`").split(" ")) for row in table("management")}
    assert {(method, f"/api{path}") for method, path in calls()} == documented


# -- tenancy ------------------------------------------------------------------------------------------


def test_another_tenants_project_looks_like_a_missing_one(zebra: Tenant, heron: Tenant) -> None:
    api, before, asked = client_of(heron.user), zebra.everything(), 0
    for method, path in calls():
        if "<project_slug>" not in path:
            continue
        theirs = api.call(method, filled(path, zebra, zebra), body_of(path))
        missing = api.call(method, filled(path, zebra, zebra).replace(SECRET, "nothing"), body_of(path))
        hidden = {"x-request-id", "date"}
        shown = [
            (each.status_code, each.content, {n: v for n, v in each.headers.items() if n not in hidden})
            for each in (theirs, missing)
        ]
        assert shown[0] == shown[1]
        assert error_of(theirs) == (404, "Project not found", "project_not_found")
        for wrong in ("%00", "..", "a%20b", "%C3%A9", "x" * 300):
            assert api.call(method, filled(path, zebra, zebra).replace(SECRET, wrong), body_of(path)).status_code == 404
        asked += 1
    assert asked > 12
    assert zebra.everything() == before


def test_objects_of_another_tenant_are_not_found_in_the_own_project(zebra: Tenant, heron: Tenant) -> None:
    api, before = client_of(heron.user), zebra.everything()
    for method, path in calls():
        response = api.call(method, filled(path, heron, zebra), body_of(path) if method in ("POST", "PATCH") else None)
        assert SECRET not in response.text
        if "<dataset_id>" in path:
            assert error_of(response) == (404, "Dataset not found", "dataset_not_found")
        elif "<key_id>" in path:
            assert error_of(response) == (404, "API key not found", "api_key_not_found")
    assert zebra.everything() == before


def test_only_a_token_that_may_write_changes_anything(heron: Tenant) -> None:
    reader, before = client_of(heron.user, "read"), heron.everything()
    for method, path in calls():
        response = reader.call(
            method, filled(path, heron, heron), body_of(path) if method in ("POST", "PATCH") else None
        )
        if method == "GET" or path.endswith("/query"):
            assert response.status_code == 200, path
        else:
            assert error_of(response) == (403, "Insufficient scope", "insufficient_scope")
            assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]
    assert heron.everything() == before


def test_no_path_takes_an_api_key_or_a_stranger(heron: Tenant) -> None:
    for method, path in calls():
        for token, code in ((issue_token(heron.key), "project_api_key"), (None, "missing_personal_access_token")):
            response = Management(token).call(method, filled(path, heron, heron))
            assert error_of(response)[2] == code, path


def test_every_path_works_for_its_tenant(heron: Tenant) -> None:
    superuser = client_of(User.objects.create_superuser("root"))
    for api in (client_of(heron.user), superuser):
        for method, path in sorted(calls(), key=lambda each: each[0] == "DELETE"):
            body = body_of(path) if method == "POST" else {} if method == "PATCH" else None
            response = api.call(method, filled(path, heron, heron) + "/", body)
            # The second user's names are taken, and only a superuser makes projects.
            assert response.status_code in (200, 201, 204, 409) or (path == "/projects" and api is not superuser), path


def test_a_method_that_a_path_does_not_have_is_a_405(client: Management) -> None:
    for method, path in (("PUT", "/datasets/shop"), ("OPTIONS", "/projects"), ("DELETE", "/quota/shop")):
        response = client.call(method, path)
        assert error_of(response) == (405, "Method not allowed", "method_not_allowed")
        assert "GET" in response.headers["Allow"]
    assert error_of(client.call("GET", "/nothing")) == (404, "Not found", "not_found")
    assert error_of(client.call("GET", "/"))[0] == 404
    assert client.call("GET", "/projects", Accept="text/html").headers["Content-Type"] == "application/json"
    assert client.call("HEAD", "/projects").status_code == 200


# -- keys ---------------------------------------------------------------------------------------------


def test_a_key_is_issued_once_and_revoked(client: Management, shop: Project) -> None:
    dataset = services.create_dataset(project=shop, name="Orders", fields=[Field("country", "string")])
    made = client.call("POST", "/keys/shop", {"name": "checkout"}, Idempotency_Key="a")
    key = made.json()
    assert made.status_code == 201
    assert (key["name"], key["state"], key["expires_at"]) == ("checkout", "active", None)
    again = client.call("POST", "/keys/shop", {"name": "checkout"}, Idempotency_Key="a")
    assert again.json() == key
    assert key["token"] not in str(ManagementAnswer.objects.values())
    sender = Api(key["token"], dataset)
    assert sender.one(RECORD).status_code == 202
    (listed,) = client.ok("GET", "/keys/shop")["keys"]
    assert listed == {name: value for name, value in key.items() if name != "token"}
    for _ in range(2):
        assert client.call("DELETE", f"/keys/shop/{key['id']}").status_code == 204
    assert sender.one(RECORD).status_code == 401
    assert client.ok("GET", "/keys/shop")["keys"][0]["state"] == "revoked"
    messages = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert messages == [f"{what} By the token “write of alice”." for what in ("Issued.", "Revoked.")]
    for wrong in ("0", "x", "9" * 30):
        assert error_of(client.call("DELETE", f"/keys/shop/{wrong}"))[2] == "api_key_not_found"


def test_a_key_may_expire(client: Management) -> None:
    later = client.ok("POST", "/keys/shop", {"name": "a", "expires_at": "2999-01-31T12:00:00+02:00"})
    assert later["expires_at"] == "2999-01-31T10:00:00Z"
    for wrong in ("2020-01-01T00:00:00Z", "soon", 5):
        assert error_of(client.call("POST", "/keys/shop", {"name": "b", "expires_at": wrong}))[0] == 400


def test_a_browser_key_is_issued_and_changed(client: Management) -> None:
    asked = {"name": "shop", "origins": ["https://Shop.example.com/"], "records_per_minute": 50}
    key = client.ok("POST", "/keys/shop", asked)
    assert (key["origins"], key["records_per_minute"]) == (["https://shop.example.com"], 50)
    path = f"/keys/shop/{key['id']}"
    changed = client.ok("PATCH", path, {"origins": ["http://localhost:3000"]})
    assert changed == {name: value for name, value in key.items() if name != "token"} | {
        "origins": ["http://localhost:3000"]
    }
    log = LogEntry.objects.latest("pk").change_message
    assert log == "Origins: “https://shop.example.com” → “http://localhost:3000”. By the token “write of alice”."
    assert client.ok("PATCH", path, {"records_per_minute": 7, "name": "till"})["records_per_minute"] == 7
    assert client.ok("GET", "/keys/shop")["keys"][0]["name"] == "till"
    assert error_of(client.call("PATCH", "/keys/shop/999999", {}))[2] == "api_key_not_found"
    for field, wrong in (("origins", []), ("origins", ["*"]), ("origins", "https://a.example"), ("origins", [5])):
        refused = client.call("PATCH", path, {field: wrong})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, field)
    for number in (0, -1, 1.5, "5", True, 2**31):
        refused = client.call("PATCH", path, {"records_per_minute": number})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "records_per_minute")


def test_an_ordinary_key_cannot_become_a_browser_key(client: Management) -> None:
    key = client.ok("POST", "/keys/shop", {"name": "till", "origins": []})
    assert (key["origins"], key["records_per_minute"]) == ([], None)
    path = f"/keys/shop/{key['id']}"
    for body in ({"origins": ["https://shop.example.com"]}, {"records_per_minute": 5}):
        assert error_of(client.call("PATCH", path, body))[0] == 400
    assert error_of(client.call("POST", "/keys/shop", {"name": "b", "records_per_minute": 5}))[0] == 400


# -- ledger and quota ---------------------------------------------------------------------------------


def test_the_ledger_says_where_the_records_are(client: Management, shop: Project) -> None:
    dataset = services.create_dataset(project=shop, name="Orders", fields=[Field("country", "string")])
    services.create_dataset(project=shop, name="Empty")
    sender = Api(issue_token(services.create_key(project=shop, name="k")), dataset)
    assert sender.batch([RECORD] * 3).status_code == 202
    stored(dataset)
    assert sender.one(RECORD).status_code == 202
    figures = {"accepted": 4, "stored": 3, "queued": 1, "quarantined": 0, "adds_up": True}
    zeros = dict.fromkeys(("accepted", "stored", "queued", "quarantined"), 0)
    first, second = client.ok("GET", "/ledger/shop")["datasets"]
    assert first == {"id": dataset.pk, "slug": "orders", **figures}
    assert second == {"id": second["id"], "slug": "empty", **zeros, "adds_up": True}
    assert client.ok("GET", "/ledger/shop?limit=1")["next"].startswith("/api/ledger/shop?")


def test_a_table_that_cannot_be_read_does_not_hide_the_others(client: Management, shop: Project) -> None:
    dataset = services.create_dataset(project=shop, name="Orders", fields=[Field("country", "string")])
    sender = Api(issue_token(services.create_key(project=shop, name="k")), dataset)
    assert sender.one(RECORD).status_code == 202
    stored(dataset)
    services.create_dataset(project=shop, name="Empty")
    for file in Path(settings.STORAGE_URL).rglob("*.json"):
        file.write_text("not a log")
    broken, fine = client.ok("GET", "/ledger/shop")["datasets"]
    assert broken["accepted"] is None
    assert broken["detail"]
    assert fine["accepted"] == 0


def test_the_quota_is_that_of_the_owner(client: Management, shop: Project) -> None:
    _, end = bounds(period_of(clock.now()))
    resets = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = client.ok("GET", "/quota/shop")
    assert shown == {"limit": -1, "used": 0, "remaining": None, "period": shown["period"], "resets_at": resets}
    set_limit(shop.owner, 10)
    dataset = services.create_dataset(project=shop, name="Orders", fields=[Field("country", "string")])
    sender = Api(issue_token(services.create_key(project=shop, name="k")), dataset)
    assert sender.batch([RECORD] * 3).status_code == 202
    assert {"limit": 10, "used": 3, "remaining": 7}.items() <= client.ok("GET", "/quota/shop").items()


def test_without_redis_the_answer_is_json(client: Management) -> None:
    with redis_away():
        assert error_of(client.call("GET", "/quota/shop")) == (503, "Service unavailable", "service_unavailable")
