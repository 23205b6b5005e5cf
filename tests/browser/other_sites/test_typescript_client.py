"""The TypeScript client, packed and bundled as for a web page, in Chromium on a page of another site."""

from functools import lru_cache

import pytest
from playwright.sync_api import Page

from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from tests.browser.other_sites.conftest import OpenPage, arrived
from tests.browser.support.site import wait_until
from tests.clients.typescript.artifact import program, run, source
from tests.conftest import FIELDS, record, stored

MAKE = """([baseUrl, apiKey, id, fields]) => {
  const { DatasetIngestClient, defineDataset } = packed;
  const dataset = defineDataset({ id, fields });
  window.client = new DatasetIngestClient({ baseUrl, apiKey, dataset, maxRetries: 0, flushIntervalMs: 60_000 });
}"""
NAME_OF_ERROR = "(record) => client.send(record).catch((error) => error.name)"


@lru_cache(maxsize=1)
def bundle() -> str:
    """Return a script that has the package as the variable `packed`."""
    made = program() / "packed.js"
    package = program() / "node_modules" / "@dataset-ingest" / "client"
    options = ("--bundle", "--minify", "--format=iife", "--global-name=packed", f"--outfile={made}")
    run(source() / "node_modules/.bin/esbuild", package, *options, cwd=program())
    return made.read_text()


@pytest.fixture
def visit_with_client(visit: OpenPage, service: str, dataset: Dataset, shop: ApiKey) -> OpenPage:
    """Return a function that opens a page of another site, whose scripts have a client."""
    fields = {field.name: field.type for field in FIELDS}

    def opened(host: str) -> Page:
        page = visit(host)
        page.add_script_tag(content=bundle())
        page.evaluate(MAKE, [service, issue_token(shop), dataset.pk, fields])
        return page

    return opened


def test_a_page_of_another_site_sends_and_waits_until_records_are_stored(
    visit_with_client: OpenPage, dataset: Dataset
) -> None:
    page = visit_with_client("shop")
    receipt = page.evaluate("(record) => client.send(record)", record(country="sent"))
    assert (receipt["datasetId"], receipt["count"]) == (dataset.pk, 1)
    large = [record(country="enqueued", context={"text": "é" * 500}) for _ in range(10)]  # sent compressed
    page.evaluate("(records) => { for (const each of records) client.enqueue(each); }", large)
    page.evaluate("() => client.flush()")
    assert [row["country"] for row in stored(dataset)] == ["sent", *["enqueued"] * 10]
    page.evaluate('() => client.flush({ until: "stored" })')


def test_a_page_that_is_left_sends_what_was_enqueued(visit_with_client: OpenPage, dataset: Dataset) -> None:
    page = visit_with_client("shop")
    page.evaluate("(record) => void client.enqueue(record)", record(country="left"))
    page.goto("about:blank")
    wait_until(lambda: arrived(dataset) == 1)
    assert [row["country"] for row in stored(dataset)] == ["left"]


def test_errors_have_names_on_a_page_of_another_site(visit_with_client: OpenPage, dataset: Dataset) -> None:
    assert visit_with_client("shop").evaluate(NAME_OF_ERROR, record(country=5)) == "ValidationError"
    # The browser hides the refusal from a page that is not allowed, so it looks like a failure of the network.
    assert visit_with_client("evil").evaluate(NAME_OF_ERROR, record()) == "OutcomeUnknownError"
    assert arrived(dataset) == 0
