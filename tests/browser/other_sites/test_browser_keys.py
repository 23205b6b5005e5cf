"""Chromium with pages of other sites: preflights, refusals, beacons and keepalive, as web pages use them."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from datasets import services
from datasets.admin.snippets import snippets
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from ingest.monitoring import refusals
from tests.browser.conftest import LogIn
from tests.browser.other_sites.conftest import OpenPage, arrived
from tests.browser.support.scene import Scene
from tests.browser.support.site import wait_until
from tests.browser.test_accessibility import findings
from tests.conftest import FIELDS, record, stored

# Sends a request from a script of the page, and returns the parts of the answer that the script can see.
FETCH = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    const headers = Object.fromEntries(answer.headers.entries());
    return {status: answer.status, headers, body: await answer.json()};
  } catch (error) {
    return {error: String(error)};
  }
}"""


def posted(token: str, body: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": "k"}
    return {"method": "POST", "headers": headers, "body": body}


def test_an_allowed_page_sends_reads_answers_and_follows_receipts(
    service: str, dataset: Dataset, shop: ApiKey, visit: OpenPage
) -> None:
    page, url, token = visit("shop"), f"{service}/datasets/{dataset.pk}", issue_token(shop)

    def fetch(address: str, options: dict[str, Any]) -> Any:
        return page.evaluate(FETCH, [address, options])

    accepted = fetch(url, posted(token, json.dumps(record())))
    assert (accepted["status"], accepted["body"]) == (202, {"success": True, "status": "queued"})
    assert accepted["headers"]["x-request-id"]
    with_key = {"headers": {"Authorization": f"Bearer {token}"}}
    assert fetch(service + accepted["headers"]["location"], with_key)["body"]["status"] == "queued"
    assert fetch(f"{url}/schema", with_key)["body"]["version"] == 1
    refused = fetch(url, posted(token, json.dumps(record(country=5))))
    assert (refused["status"], refused["body"]["code"]) == (400, "invalid_field")
    assert fetch(f"{service}/datasets/999999", posted(token, "{}"))["status"] == 404

    services.change_key(shop, records_per_minute=1)
    too_fast = fetch(f"{url}/batch", {**posted(token, json.dumps([record()])), "headers": with_key["headers"]})
    assert too_fast["body"]["code"] == "unsupported_media_type"
    options = posted(token, json.dumps([record()]))
    del options["headers"]["Idempotency-Key"]
    too_fast = fetch(f"{url}/batch", options)
    assert (too_fast["status"], too_fast["body"]["code"]) == (429, "rate_limited")
    assert 0 < int(too_fast["headers"]["retry-after"]) <= 61

    services.revoke_key(shop)
    revoked = fetch(url, options)
    assert (revoked["status"], revoked["body"]["code"]) == (401, "invalid_api_key")
    assert len(stored(dataset)) == 1


def test_other_pages_and_ordinary_keys_are_refused(
    service: str, dataset: Dataset, key: ApiKey, shop: ApiKey, visit: OpenPage
) -> None:
    url = f"{service}/datasets/{dataset.pk}"
    evil = visit("evil")
    refused = evil.evaluate(FETCH, [url, posted(issue_token(shop), json.dumps(record()))])
    assert refused == {"error": "TypeError: Failed to fetch"}
    ordinary = visit("shop").evaluate(FETCH, [url, posted(issue_token(key), json.dumps(record()))])
    assert (ordinary["status"], ordinary["body"]["code"]) == (403, "browser_key_required")
    assert evil.evaluate("([url, body]) => navigator.sendBeacon(url, body)", _beacon(url, shop))
    evil.goto("about:blank")
    assert visit("shop").evaluate("([url, body]) => navigator.sendBeacon(url, body)", _beacon(url, shop))
    wait_until(lambda: arrived(dataset) == 1)
    wait_until(lambda: len(refusals.latest(dataset.project_id)) == 3)


def _beacon(url: str, key: ApiKey) -> list[str]:
    return [f"{url}?key={issue_token(key)}", json.dumps(record())]


@pytest.mark.parametrize("leave", ["by a link", "by closing the tab"])
def test_requests_of_a_page_that_the_user_leaves_arrive(
    service: str, dataset: Dataset, shop: ApiKey, visit: OpenPage, leave: str
) -> None:
    page, url = visit("shop"), f"{service}/datasets/{dataset.pk}"
    page.evaluate(
        """([url, key, one, other]) => addEventListener("pagehide", () => {
          navigator.sendBeacon(`${url}?key=${key}`, one);
          const headers = {Authorization: `Bearer ${key}`, "Content-Type": "application/json"};
          fetch(url, {method: "POST", headers, body: other, keepalive: true});
        })""",
        [url, issue_token(shop), json.dumps(record(country="beacon")), json.dumps(record(country="keepalive"))],
    )
    if leave == "by a link":
        page.goto("about:blank")
    else:
        page.close(run_before_unload=True)
    wait_until(lambda: arrived(dataset) == 2)
    assert {row["country"] for row in stored(dataset)} == {"beacon", "keepalive"}


def test_the_shown_code_runs_as_pasted(service: str, dataset: Dataset, shop: ApiKey, visit: OpenPage) -> None:
    page = visit("shop")
    code = snippets(service, dataset.pk, FIELDS, issue_token(shop), for_browsers=True)
    fetch, beacon = (each.text for each in code)
    with page.expect_console_message() as console:
        page.add_script_tag(content=fetch)
    assert console.value.text == '202 {"success":true,"status":"queued"}'
    page.add_script_tag(content=beacon)
    page.goto("about:blank")
    wait_until(lambda: arrived(dataset) == 2)


def test_a_browser_key_is_issued_in_the_admin(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto(f"/admin/datasets/apikey/add/?project={scene.project.pk}")
    page.fill("[name=name]", "landing page")
    expect(page.locator("[name=origins]")).to_be_hidden()
    page.select_option("[name=used_by]", "browser")
    page.fill("[name=origins]", "https://www.example.com/landing")
    page.fill("[name=records_per_minute]", "1000")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("is an address, but an origin has no path")).to_be_visible()
    page.fill("[name=origins]", "https://WWW.example.com/\nhttp://localhost:3000")
    assert findings(page) == []
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Everybody can read this key")).to_be_visible()
    expect(page.get_by_text("https://www.example.com, http://localhost:3000")).to_be_visible()
    expect(page.locator("#snippet-browser")).to_contain_text(page.locator("#token").input_value())
    page.locator("summary", has_text="a beacon when the user leaves the page").click()
    expect(page.locator("#snippet-beacon")).to_contain_text("navigator.sendBeacon(")
    assert findings(page) == []
    key = ApiKey.objects.get(name="landing page")
    assert (key.origins, key.records_per_minute) == (["https://www.example.com", "http://localhost:3000"], 1000)

    page.goto(f"/admin/datasets/apikey/{key.pk}/change/")
    expect(page.locator("[name=origins]")).to_have_value("https://www.example.com\nhttp://localhost:3000")
    page.fill("[name=origins]", "http://www.example.com")
    page.fill("[name=records_per_minute]", "2000")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("http://www.example.com is not encrypted")).to_be_visible()
    key.refresh_from_db()
    assert (key.origins, key.records_per_minute) == (["http://www.example.com"], 2000)
