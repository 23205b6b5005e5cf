"""Every address: its methods, its spellings, its dataset, and the request ID of its answers."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from ingest.api.bypasses import Accepted
from ingest.queue import redis_keys
from tests.conftest import FIELDS, Api, record, stored
from tests.support.documents import table
from tests.support.entries import in_stream
from tests.support.processes.signs import all_is_well
from tests.support.sending.wire import call

POSTS = (
    "/datasets",
    "/datasets/batch",
    "/datasets/{id}",
    "/datasets/{id}/batch",
    "/datasets/{id}/validate",
)
GETS = ("/datasets/{id}/receipts/x", "/healthz", "/readyz", "/metrics")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
INVALID_IDS = (
    "0",
    "-1",
    "+1",
    "1.5",
    "1e3",
    "abc",
    "013",
    "0x1",
    "1_0",
    "1,2",
    "१३",
    "１３",
    "²",
    "%20",
    "1%20",
    "%2013",
)
RECEIPT = re.compile(r"/datasets/(\d+)/receipts/[0-9a-f]{8}-\d+-\d+-[0-9a-f]{16}").fullmatch


@pytest.fixture
def default_dataset(project: Project, dataset: Dataset) -> Dataset:
    project.default_dataset = dataset
    services.save_project(project, changed=["default_dataset"])
    return dataset


# -- what each endpoint answers -----------------------------------------------------------------------


def test_it_accepts_one_record(api: Api, dataset: Dataset) -> None:
    response = api.post(f"/datasets/{dataset.pk}", record())
    assert (response.status_code, response.content) == (202, b'{"success":true,"status":"queued"}')
    assert response.headers["Content-Type"] == "application/json"
    assert [row["country"] for row in stored(dataset)] == ["RO"]


def test_it_accepts_a_batch(api: Api, dataset: Dataset) -> None:
    response = api.post(f"/datasets/{dataset.pk}/batch", [record(country="RO"), record(country="US")])
    assert (response.status_code, response.content) == (202, b'{"success":true,"count":2,"status":"queued"}')
    assert response.headers["Content-Type"] == "application/json"
    assert [row["country"] for row in stored(dataset)] == ["RO", "US"]


def test_it_accepts_one_record_for_the_default_dataset(api: Api, default_dataset: Dataset) -> None:
    response = api.post("/datasets", record())
    assert (response.status_code, response.content) == (202, b'{"success":true,"status":"queued"}')
    assert len(stored(default_dataset)) == 1


def test_it_accepts_a_batch_for_the_default_dataset(api: Api, default_dataset: Dataset) -> None:
    response = api.post("/datasets/batch", [record(), record()])
    assert (response.status_code, response.content) == (202, b'{"success":true,"count":2,"status":"queued"}')
    assert len(stored(default_dataset)) == 2


def test_202_names_the_receipt_of_the_right_dataset(api: Api, default_dataset: Dataset) -> None:
    receipts = []
    for path in ("/datasets", f"/datasets/{default_dataset.pk}"):
        location = api.post(path, record()).headers["Location"]
        match = RECEIPT(location)
        assert match is not None, location
        assert int(match[1]) == default_dataset.pk
        receipts.append(location)
        assert api.request("GET", location).json()["status"] == "queued"
    assert receipts[0] != receipts[1]
    stored(default_dataset)
    assert [api.request("GET", receipt).json()["status"] for receipt in receipts] == ["stored", "stored"]


def test_no_limit_means_no_rate_limit_headers(api: Api) -> None:
    headers = api.one(record()).headers
    assert not [name for name in headers if name.lower().startswith("ratelimit")]


def test_it_says_that_it_is_alive(transactional_db: None) -> None:
    response = Api(None).request("GET", "/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_readyz_names_everything_that_is_needed(transactional_db: None) -> None:
    all_is_well()
    response = Api(None).request("GET", "/readyz")
    checks = dict.fromkeys(("redis", "database", "worker", "upkeep", "beat", "storage"), "ok")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "checks": checks})


def test_it_says_that_it_is_not_ready_without_a_worker(transactional_db: None) -> None:
    response = Api(None).request("GET", "/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert response.json()["checks"]["worker"] == "no heartbeat for 60 seconds"


def test_it_counts_for_prometheus(api: Api) -> None:
    api.batch([record(), record()])
    api.one(b"{")
    response = Api(None).request("GET", "/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    lines = response.text.splitlines()
    assert "ingest_accepted_records_total 2.0" in lines
    assert "ingest_queued_records 2.0" in lines
    assert 'ingest_refused_requests_total{code="invalid_json"} 1.0' in lines


def test_every_metric_is_in_the_table_of_the_documents(api: Api) -> None:
    text = Api(None).request("GET", "/metrics").text
    assert re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE) == [
        (name.strip("`"), meaning) for name, meaning in table("metrics")
    ]


def test_a_405_is_counted_by_its_code(api: Api) -> None:
    assert api.request("GET", "/datasets/1").status_code == 405
    assert api.request("DELETE", "/healthz").status_code == 405
    lines = Api(None).request("GET", "/metrics").text.splitlines()
    assert 'ingest_refused_requests_total{code="method_not_allowed"} 2.0' in lines
    assert not any('{code="405"}' in line for line in lines)


def test_root_links_to_the_description_and_the_admin(transactional_db: None) -> None:
    response = Api(None).request("GET", "/")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    for path in (response.json()["description"], response.json()["documentation"], response.json()["admin"]):
        assert Api(None).request("GET", path).status_code in (200, 302)
    page = Api(None).request("GET", "/", headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["Vary"] == response.headers["Vary"] == "Accept"
    for path in ("/docs", "/openapi.json", "/admin/"):
        assert f'href="{path}"' in page.text
    assert Api(None).request("POST", "/").status_code == 405


# -- spellings ----------------------------------------------------------------------------------------


def test_a_trailing_slash_is_tolerated(api: Api, default_dataset: Dataset) -> None:
    all_is_well()
    for path in POSTS:
        body: Any = [record()] if path.endswith("batch") else record()
        expected = 200 if path.endswith("validate") else 202
        assert api.post(path.format(id=default_dataset.pk) + "/", body).status_code == expected, path
    receipt = api.one(record()).headers["Location"]
    for path in (receipt, "/healthz", "/readyz", "/metrics"):
        assert api.request("GET", path + "/").status_code == 200, path


@pytest.mark.parametrize(
    "path",
    ["/records", "/datasets/1/records", "/datasets//", "/datasets//batch", "/datasets/1//", "/dataset/1", "/healthz/x"],
)
def test_an_unknown_address_is_a_404_in_json(path: str) -> None:
    response = Api(None).request("POST", path)
    assert (response.status_code, response.json()) == (404, {"error": "Not found", "code": "not_found"})
    assert response.headers["Content-Type"] == "application/json"


def test_bytes_that_are_not_text_in_an_address_are_refused() -> None:
    for path, status in (
        (b"/datasets/\xff", 400),
        (b"/\xff\xfe", 404),
        (b"/datasets/\0", 400),
        (b"/datasets/1\n", 400),
    ):
        answer = call(path, HTTP_AUTHORIZATION="Bearer any")
        assert answer.status == status, path
        assert answer.json()["error"] in ("Invalid dataset ID", "Not found")


# -- methods ------------------------------------------------------------------------------------------


def test_other_methods_are_refused_before_the_key_is_read() -> None:
    nobody = Api(None)
    for path in (*POSTS, *GETS):
        allowed = ("POST",) if path in POSTS else ("GET", "HEAD")
        for method in METHODS:
            if method in allowed:
                continue
            response = nobody.request(method, path.format(id="abc"))
            assert response.status_code == 405, (method, path)
            assert response.json() == {"error": "Method not allowed", "code": "method_not_allowed"}
            assert response.headers["Allow"] == ", ".join(allowed)
            assert response.headers["Content-Type"] == "application/json"


def test_a_method_cannot_be_changed_by_a_header_or_a_form(api: Api, dataset: Dataset) -> None:
    response = api.request("GET", f"/datasets/{dataset.pk}", headers={"X-HTTP-Method-Override": "POST"})
    assert response.status_code == 405


# -- which dataset ------------------------------------------------------------------------------------


@pytest.fixture
def other(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="Other", fields=FIELDS)


def test_the_header_names_the_dataset_where_the_path_does_not(
    api: Api, default_dataset: Dataset, other: Dataset
) -> None:
    assert api.post("/datasets", record(), X_Loguro_Dataset_Id=str(other.pk)).status_code == 202
    assert api.post("/datasets/batch", [record()], X_Loguro_Dataset_Id=str(other.pk)).status_code == 202
    assert (in_stream(other), in_stream(default_dataset)) == (2, 0)


def test_the_path_is_used_even_if_the_header_names_another_dataset(api: Api, dataset: Dataset, other: Dataset) -> None:
    assert api.one(record(), X_Loguro_Dataset_Id=str(other.pk)).status_code == 202
    assert api.one(record(), X_Loguro_Dataset_Id="abc").status_code == 202
    assert api.batch([record()], X_Loguro_Dataset_Id="999999").status_code == 202
    assert (in_stream(dataset), in_stream(other)) == (3, 0)


@pytest.mark.parametrize("suffix", ["", "/batch", "/validate"])
def test_an_invalid_id_in_the_path_is_refused(suffix: str) -> None:
    for invalid in INVALID_IDS:
        answer = call(f"/datasets/{invalid}{suffix}", HTTP_AUTHORIZATION="Bearer any")
        assert answer.status == 400, invalid
        assert answer.json() == {"error": "Invalid dataset ID", "code": "invalid_dataset_id", "received": invalid}
    answer = call("/datasets/abc/receipts/x", "GET", HTTP_AUTHORIZATION="Bearer any")
    assert (answer.status, answer.json()["error"]) == (400, "Invalid dataset ID")


@pytest.mark.parametrize("path", ["/datasets", "/datasets/batch"])
def test_an_invalid_id_in_the_header_is_refused(path: str) -> None:
    api = Api("any token")
    for invalid in ("", "0", "-1", "1.5", "abc", "013", "1 3", "1,2", "x" * 5000):
        response = api.post(path, record(), X_Loguro_Dataset_Id=invalid)
        assert (response.status_code, response.json()["error"]) == (400, "Invalid dataset ID"), invalid
        assert len(response.content) < 300


def test_id_above_the_maximum_is_a_dataset_that_does_not_exist(api: Api) -> None:
    for huge in (2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**4000):
        response = api.post(f"/datasets/{huge}", record())
        assert (response.status_code, response.json()["error"]) == (404, "Dataset schema not found"), huge


# -- request ids --------------------------------------------------------------------------------------


def test_every_answer_repeats_the_clients_request_id(api: Api, dataset: Dataset) -> None:
    given = {"X-Request-Id": "req_123"}
    for method, path in (
        ("POST", f"/datasets/{dataset.pk}"),  # 400, no body
        ("POST", "/datasets/999999"),
        ("POST", "/nowhere"),
        ("PUT", "/datasets"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/admin/login/"),
        ("GET", "/static/nothing.css"),
    ):
        assert api.request(method, path, headers=given).headers["X-Request-Id"] == "req_123", (method, path)
    assert api.one(record(), **{"X-Request-Id": "req_123"}).headers["X-Request-Id"] == "req_123"


def test_answer_without_a_request_id_gets_a_new_one(api: Api) -> None:
    ids = {api.one(body).headers["X-Request-Id"] for body in (record(), record(), b"{", b"")}
    ids |= {Api(None).request("GET", path).headers["X-Request-Id"] for path in ("/nowhere", "/healthz")}
    assert len(ids) == 6
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize(
    "offered",
    ["", " ", "a b", "a\tb", "x" * 129, "a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "\x00", "é", "a\x7fb", "\x1b[31m"],
)
def test_a_request_id_that_is_not_safe_to_repeat_is_replaced(offered: str) -> None:
    """The web server refuses most control characters in headers. Here the application gets all values."""
    answer = call("/healthz", "GET", HTTP_X_REQUEST_ID=offered)
    assert answer.status == 200
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])
    assert set(answer.headers) == {"Content-Type", "Content-Length", "X-Request-Id"}


@pytest.mark.parametrize("offered", ["x" * 128, "a", "!~", '"quoted"', "<script>", "a;b=c", "../../etc", "%0d%0a"])
def test_any_visible_ascii_is_a_request_id(offered: str) -> None:
    assert call("/healthz", "GET", HTTP_X_REQUEST_ID=offered).headers["X-Request-Id"] == offered


def test_request_id_is_the_trace_id_of_every_record(api: Api, dataset: Dataset) -> None:
    api.batch([record(), record()], X_Request_Id="req_123")
    made = api.one(record()).headers["X-Request-Id"]
    assert [row["__traceId"] for row in stored(dataset)] == ["req_123", "req_123", made]


# -- defects of ours ----------------------------------------------------------------------------------


def test_a_defect_is_a_500_in_json_that_tells_nothing(api: Api, dataset: Dataset) -> None:
    dataset.versions.update(fields=[{"nonsense": "s3cret"}])  # only a defect could write this
    response = api.one(record(), X_Request_Id="req_123")
    assert (response.status_code, response.json()) == (500, {"error": "Internal error", "code": "internal_error"})
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"] == "req_123"


def test_defect_outside_the_ingest_routes_is_a_json_500() -> None:
    redis.client().set(redis_keys.TOTAL_ACCEPTED, "not what an admission writes")
    response = Api(None).request("GET", "/metrics", headers={"X-Request-Id": "req_123"})
    assert (response.status_code, response.json()) == (500, {"error": "Internal error", "code": "internal_error"})
    assert response.headers["X-Request-Id"] == "req_123"


# -- what belongs to others ---------------------------------------------------------------------------


def test_project_comes_from_the_key_and_not_from_the_body(api: Api, dataset: Dataset) -> None:
    stranger = services.create_project(slug="stranger", owner=User.objects.create_user("stranger"))
    response = api.one(record(project_id=stranger.pk))
    assert (response.status_code, response.json()["error"]) == (400, "Extra field: project_id")
    assert api.one(record()).status_code == 202
    (row,) = stored(dataset)
    assert row["project_id"] == dataset.project_id


def test_the_admins_stack_serves_the_admin_and_not_the_api(api: Api, key: ApiKey, dataset: Dataset) -> None:
    assert "csrftoken" in api.request("GET", "/admin/login/").headers.get("Set-Cookie", "")
    assert "Set-Cookie" not in api.one(record()).headers
    assert issue_token(key) not in api.request("GET", "/admin/login/").text


def test_an_acceptance_has_the_content_and_headers_that_django_would_send() -> None:
    headers = {"Location": "/datasets/1/receipts/x", "Idempotent-Replayed": "true"}
    ours = Accepted(b"{}", headers)
    djangos = HttpResponse(b"{}", status=202, content_type="application/json", headers=headers)
    assert sorted(ours.items()) == sorted(djangos.items())
    assert (ours.content, ours.status_code) == (djangos.content, djangos.status_code)
