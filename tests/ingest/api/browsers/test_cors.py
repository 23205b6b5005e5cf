"""CORS: the answers to preflights, and which pages may read an answer."""

from datetime import timedelta

import httpx
import pytest
from pytest_django import Settings

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from quotas.services import set_limit
from tests.conftest import Api, record
from tests.ingest.api.browsers.conftest import EVIL, SHOP, error_of, preflight
from tests.support.servers.outages import redis_away

ALLOW = "Access-Control-Allow-Origin"
PATHS = (
    "/datasets/{}",
    "/datasets/{}/batch",
    "/datasets/{}/validate",
    "/datasets/{}/schema",
    "/datasets/{}/receipts/x",
)


def readable(response: httpx.Response) -> str | None:
    """Return the origin whose pages may read the answer. Check that the answer varies with the origin."""
    assert "Origin" in response.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in response.headers
    found: str | None = response.headers.get(ALLOW)
    return found


# -- preflights ---------------------------------------------------------------------------------------


def test_a_preflight_names_methods_and_headers() -> None:
    response = preflight("/datasets/1")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["X-Request-Id"]
    assert "Content-Type" not in response.headers
    assert "Content-Length" not in response.headers
    assert response.headers["Access-Control-Allow-Methods"] == "POST"
    assert response.headers["Access-Control-Max-Age"] == "86400"
    accepted = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
    for name in ("authorization", "content-type", "content-encoding", "idempotency-key", "prefer", "if-none-match"):
        assert name in accepted
    assert readable(response) == "*"


def test_a_preflight_tells_nothing_about_keys_and_datasets(dataset: Dataset, browser_key: ApiKey) -> None:
    for path in (*PATHS, "/datasets", "/datasets/batch"):
        answers = [
            preflight(path.format(dataset_id), origin)
            for dataset_id in (dataset.pk, 999_999, "nonsense")
            for origin in (SHOP, EVIL, "null")
        ]
        told = {(each.status_code, each.content, *_without_request_id(each)) for each in answers}
        assert len(told) == 1, path


def _without_request_id(response: httpx.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in response.headers.items() if name != "x-request-id"]


def test_a_preflight_asks_neither_database_nor_redis(dataset: Dataset) -> None:
    with redis_away():
        assert preflight(f"/datasets/{dataset.pk}").status_code == 204


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/openapi.json", "/api/keys/billing", "/nothing"])
def test_other_addresses_are_not_for_pages_of_other_sites(path: str, transactional_db: None) -> None:
    response = preflight(path)
    assert response.status_code >= 400
    assert ALLOW not in response.headers


def test_options_without_an_origin_is_not_a_preflight() -> None:
    for headers in ({}, {"Origin": SHOP}, {"Access-Control-Request-Method": "POST"}):
        response = Api(None).request("OPTIONS", "/datasets/1", headers=headers)
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")


# -- answers ------------------------------------------------------------------------------------------


def test_every_answer_to_an_allowed_page_can_be_read(page: Api, dataset: Dataset) -> None:
    accepted = page.one(record(), Origin=SHOP)
    assert accepted.status_code == 202
    receipt = accepted.headers["Location"]
    answers = {
        202: accepted,
        200: page.request("GET", receipt, headers={"Origin": SHOP}),
        304: page.request("GET", f"/datasets/{dataset.pk}/schema", headers={"Origin": SHOP, "If-None-Match": '"1"'}),
        400: page.one(b"{", Origin=SHOP),
        404: page.post("/datasets/999999", record(), Origin=SHOP),
        415: page.post(f"/datasets/{dataset.pk}", b"x", "text/xml", Origin=SHOP),
        422: _key_reused(page),
    }
    for status, response in answers.items():
        assert (response.status_code, readable(response)) == (status, SHOP)
    exposed = accepted.headers["Access-Control-Expose-Headers"].split(", ")
    always = {"cache-control", "content-length", "content-type", "vary"}
    for response in answers.values():
        ours = {name for name in response.headers if not name.startswith("access-control")} - always
        assert ours <= {name.lower() for name in exposed}


def _key_reused(page: Api) -> httpx.Response:
    page.one(record(), Origin=SHOP, Idempotency_Key="k")
    return page.one(record(country="US"), Origin=SHOP, Idempotency_Key="k")


def test_the_headers_of_a_quota_can_be_read(page: Api, dataset: Dataset) -> None:
    set_limit(dataset.project.owner, 1)
    assert "RateLimit" in page.one(record(), Origin=SHOP).headers
    refused = page.one(record(), Origin=SHOP)
    assert (refused.status_code, readable(refused)) == (429, SHOP)
    exposed = refused.headers["Access-Control-Expose-Headers"]
    for name in ("Retry-After", "RateLimit", "RateLimit-Policy"):
        assert name in refused.headers
        assert name in exposed


def test_a_refusal_that_depends_on_no_list_can_be_read_by_every_page(page: Api, browser_key: ApiKey) -> None:
    assert page.dataset is not None
    assert readable(Api(None, page.dataset).one(record(), Origin=EVIL)) == "*"
    assert readable(Api("nonsense", page.dataset).one(record(), Origin=EVIL)) == "*"
    assert readable(page.request("PUT", f"/datasets/{page.dataset.pk}", headers={"Origin": EVIL})) == "*"
    services.revoke_key(browser_key)
    revoked = page.one(record(), Origin=SHOP)
    assert (error_of(revoked), readable(revoked)) == ((401, "invalid_api_key"), "*")


def test_an_outage_can_be_read_before_the_key_is_known_and_after(page: Api, settings: Settings) -> None:
    settings.ADMISSION_TIMEOUT_SECONDS = 0.1
    with redis_away():
        response = page.one(record(), Origin=SHOP)
    assert (response.status_code, readable(response)) == (503, "*")
    assert page.one(record(), Origin=SHOP).status_code == 202
    with redis_away():
        response = page.one(record(), Origin=SHOP)
    assert (response.status_code, readable(response)) == (503, SHOP)


def test_requests_without_an_origin_get_no_headers_of_cors(api: Api) -> None:
    for response in (api.one(record()), api.one(b"{"), Api(None).post("/datasets/1", record())):
        assert not [name for name in response.headers if name.startswith("access-control") or name == "vary"]


# -- who may send -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "",
        "*",
        "http://shop.example.com",
        "https://shop.example.com:8443",
        "https://shop.example.com.evil.example",
        "https://a.shop.example.com",
        "https://SHOP.example.com",
        f"{SHOP}/",
        f"{SHOP},{SHOP}",
        "http://localhost:3001",
        "x" * 5000,
    ],
)
def test_other_origins_are_refused_and_cannot_read_why(page: Api, dataset: Dataset, origin: str) -> None:
    paths = [("POST", path) for path in PATHS[:3]] + [("GET", path) for path in PATHS[3:]]
    for method, path in paths:
        response = page.request(method, path.format(dataset.pk), headers={"Origin": origin})
        assert error_of(response) == (403, "origin_not_allowed")
        assert readable(response) is None
        assert origin[:60] in response.json()["detail"] or origin == "null"
    assert error_of(page.post("/datasets/999999", record(), Origin=origin)) == (403, "origin_not_allowed")


def test_a_browser_key_does_not_work_outside_of_browsers(page: Api) -> None:
    response = page.one(record())
    assert error_of(response) == (403, "origin_not_allowed")
    assert "this request has no Origin header" in response.json()["detail"]
    assert ALLOW not in response.headers


def test_an_ordinary_key_is_refused_in_a_page_with_advice(api: Api) -> None:
    response = api.one(record(), Origin=SHOP)
    assert response.json() == {
        "error": "Use a browser key in web pages, not an ordinary API key",
        "code": "browser_key_required",
        "detail": "Everybody who opens the page can read this key: revoke it, and issue a browser key for the page. "
        "If a server of yours has passed the request on, remove the header Origin there.",
    }
    assert readable(response) == "*", "the advice is for the developer of the page"
    assert api.one(record()).status_code == 202


def test_pages_of_the_service_itself_may_use_ordinary_keys(api: Api) -> None:
    assert api.one(record(), Origin="http://testserver").status_code == 202
    assert error_of(api.one(record(), Origin="http://testserver.evil.example")) == (403, "browser_key_required")
    assert error_of(api.one(record(), Origin="http://testserver:81")) == (403, "browser_key_required")


def test_a_change_of_origins_holds_from_the_next_request_on(page: Api, browser_key: ApiKey) -> None:
    assert page.one(record(), Origin=SHOP).status_code == 202
    assert page.one(record(), Origin=EVIL).status_code == 403
    browser_key.origins = [EVIL]
    services.save_key(browser_key, changed=("origins",))
    assert page.one(record(), Origin=SHOP).status_code == 403
    response = page.one(record(), Origin=EVIL)
    assert (response.status_code, readable(response)) == (202, EVIL)
    browser_key.origins = [SHOP]
    services.save_key(browser_key, changed=("origins",))
    assert page.one(record(), Origin=SHOP).status_code == 202


def test_the_successor_of_a_rotated_key_has_its_origins_and_its_limit(browser_key: ApiKey, dataset: Dataset) -> None:
    browser_key.records_per_minute = 7
    services.save_key(browser_key, changed=("records_per_minute",))
    successor = services.rotate_key(browser_key, grace=timedelta(0))
    assert (successor.origins, successor.records_per_minute) == (browser_key.origins, 7)
    assert Api(issue_token(successor), dataset).one(record(), Origin=SHOP).status_code == 202
    assert error_of(Api(issue_token(browser_key), dataset).one(record(), Origin=EVIL)) == (401, "invalid_api_key")
