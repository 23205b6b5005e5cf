"""Keys in the address, for navigator.sendBeacon: only browser keys, with a text as JSON, and never in a log."""

import logging

import pytest
from pytest_django import Settings

from config.common import redis
from datasets.contracts import cache
from datasets.models import Dataset
from ingest.monitoring import refusals
from tests.conftest import Api, record, stored
from tests.ingest.api.browsers.conftest import EVIL, SHOP, beacon, error_of
from tests.support.servers.outages import everything_in, redis_away


def test_a_beacon_is_accepted(page: Api, dataset: Dataset) -> None:
    response = beacon(page)
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (202, SHOP)
    assert beacon(page, [record(), record()], path="/batch").json()["count"] == 2
    assert beacon(page, path="/validate").json() == {"valid": True, "count": 1}
    assert len(stored(dataset)) == 3


@pytest.mark.parametrize("content_type", ["text/plain", "Text/Plain; charset=utf-8", "application/json"])
def test_a_text_is_json(page: Api, content_type: str) -> None:
    assert beacon(page, content_type=content_type).status_code == 202


@pytest.mark.parametrize(
    "content_type", ["text/plain;charset=latin-1", "application/x-www-form-urlencoded", "", "text/plainer"]
)
def test_other_types_are_refused(page: Api, content_type: str) -> None:
    assert error_of(beacon(page, content_type=content_type)) == (415, "unsupported_media_type")


def test_a_text_is_json_only_in_a_beacon(page: Api, dataset: Dataset) -> None:
    response = page.post(f"/datasets/{dataset.pk}", record(), "text/plain", Origin=SHOP)
    assert error_of(response) == (415, "unsupported_media_type")


def test_a_key_in_the_address_works_on_every_path(page: Api, dataset: Dataset) -> None:
    receipt = beacon(page).headers["Location"]
    for path in (receipt, f"/datasets/{dataset.pk}/schema"):
        response = Api(None).request("GET", f"{path}?key={page.token}", headers={"Origin": SHOP})
        assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, SHOP)


def test_an_ordinary_key_in_the_address_is_refused_with_advice(api: Api) -> None:
    for origin in (None, SHOP, "http://testserver"):
        response = beacon(api, origin=origin, content_type="application/json")
        assert response.json() == {
            "error": "Only a browser key may be in the address",
            "code": "api_key_in_address",
            "detail": "Send this key in the header Authorization: Bearer. Addresses are kept in logs, so rotate the "
            "key now.",
        }
        assert response.status_code == 403


def test_a_beacon_from_another_origin_is_refused(page: Api) -> None:
    for origin in (EVIL, None, "null"):
        assert error_of(beacon(page, origin=origin)) == (403, "origin_not_allowed")


def test_the_key_in_the_header_is_used_and_not_the_key_in_the_address(page: Api, api: Api, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.pk}?key={page.token}"
    assert api.post(path, record()).status_code == 202
    assert error_of(Api("nonsense").post(path, record(), Origin=SHOP)) == (401, "invalid_api_key")
    assert error_of(Api("").post(path, record(), Origin=SHOP)) == (401, "missing_api_key")


@pytest.mark.parametrize(
    "query",
    ["", "?", "?key=", "?key", "?Key={0}", "?token={0}", "?key={0}&key={0}", "?" + "a=1&" * 30 + "key={0}", "?key=%ff"],
)
def test_the_address_must_have_exactly_one_key(page: Api, dataset: Dataset, query: str) -> None:
    path = f"/datasets/{dataset.pk}{query.format(page.token)}"
    response = Api(None).post(path, record(), "text/plain", Origin=SHOP)
    assert response.status_code == 401


def test_a_personal_token_in_the_address_is_refused(dataset: Dataset) -> None:
    assert error_of(beacon(Api("pat_abc", dataset))) == (403, "personal_access_token")


def test_no_key_in_an_address_is_written_anywhere(
    page: Api, api: Api, dataset: Dataset, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    settings.ADMISSION_TIMEOUT_SECONDS = 0.1
    refusals.forget_allowances()
    with caplog.at_level(logging.DEBUG):
        for client in (page, api):
            for origin in (SHOP, EVIL):
                beacon(client, origin=origin)
                beacon(client, b"{", origin=origin)
        with redis_away():
            beacon(page)
        dataset.versions.update(fields=[{"nonsense": ""}])
        cache.forget_all()
        assert beacon(page).status_code == 500
    lines = [record for record in caplog.records if not record.name.startswith("httpx")]
    logged = "".join(f"{record.getMessage()} {record.exc_text}" for record in lines)
    assert "refused: 403 origin_not_allowed" in logged
    assert "unexpected error in /datasets/" in logged
    assert {entry.path for entry in refusals.latest(dataset.project_id)} == {f"/datasets/{dataset.pk}"}
    written = logged + str(everything_in(redis.client()))
    for client in (page, api):
        assert client.token is not None
        assert client.token.rpartition(".")[2] not in written
