"""The records page in a browser: receipts, long values, and refused exports."""

from playwright.sync_api import expect
from pytest_django import Settings

from datasets.contracts.keys import issue_token
from datasets.tables import records
from ingest.admin import exporting
from tests.browser.conftest import LogIn
from tests.browser.support.scene import Scene
from tests.browser.support.site import wait_until
from tests.conftest import Api, record


def test_receipt_finds_its_records_and_nonsense_finds_none(log_in: LogIn, scene: Scene) -> None:
    api = Api(issue_token(scene.key), scene.dataset)
    api.one(record(country=..., source="first"))
    receipt = api.one(record(country=..., source="second")).headers["Location"]
    wait_until(lambda: records.count(scene.dataset) == 2)
    page = log_in("alice")
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/change/")
    expect(page.locator("#records tbody tr")).to_have_count(2)
    page.fill("#receipt", receipt)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#receipt-status")).to_contain_text("stored")
    expect(page.locator("#records tbody tr")).to_have_count(1)
    expect(page.locator("#records tbody tr")).to_contain_text("second")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    assert download.value.path().read_text().count("\n") == 2
    page.fill("#receipt", "nonsense")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("This is not a receipt of this dataset.")
    expect(page.locator("#records")).to_have_count(0)
    expect(page.locator("[data-export]")).to_have_count(0)
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("#records tbody tr")).to_have_count(2)


def test_long_value_is_on_the_record_page_and_in_its_download(log_in: LogIn, scene: Scene) -> None:
    text = "x" * 20_000
    Api(issue_token(scene.key), scene.dataset).one(record(country=..., source=text))
    wait_until(lambda: records.count(scene.dataset) == 1)
    page = log_in("alice")
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/change/")
    page.locator("#records tbody a").click()
    expect(page.locator("#record")).to_contain_text("x" * 10_000 + "… (shortened")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the full record").click()
    assert text in download.value.path().read_text()
    page.get_by_role("link", name="All records").click()
    expect(page.locator("#records tbody tr")).to_have_count(1)


def test_export_above_the_limit_gives_an_error_page(log_in: LogIn, scene: Scene) -> None:
    Api(issue_token(scene.key), scene.dataset).one(record(country=..., source="x"))
    wait_until(lambda: records.count(scene.dataset) == 1)
    running = [exporting.Export(scene.alice.pk, {}) for _ in range(exporting.MAX_OF_A_USER)]
    page = log_in("alice")
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/change/")
    page.get_by_role("link", name="Parquet").click()
    expect(page.get_by_role("alert")).to_contain_text("2 of your exports are still running.")
    for each in running:
        each.close()
    page.get_by_role("link", name="Records of Orders").click()
    with page.expect_download():
        page.get_by_role("link", name="Parquet").click()


def test_conditions_charts_and_groups_lead_to_records(log_in: LogIn, scene: Scene, settings: Settings) -> None:
    settings.QUERY_TIMEOUT_SECONDS = 60.0  # queries run with a low priority, so other tests delay them
    api = Api(issue_token(scene.key), scene.dataset)
    for amount, source in ((1, "web"), (20, "app"), (30, "app")):
        api.one(record(country=..., source=source, amount=amount))
    wait_until(lambda: records.count(scene.dataset) == 3)
    page = log_in("alice")
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/change/")
    condition = page.get_by_role("group", name="Condition 1")
    condition.get_by_label("Field").select_option("amount")
    expect(condition.get_by_label("Operator").get_by_role("option", name="contains")).to_be_hidden()
    condition.get_by_label("Operator").select_option(">")
    condition.get_by_label("Value").fill("many")
    page.get_by_role("button", name="Add a condition").click()
    second = page.get_by_role("group", name="Condition 2")
    second.get_by_label("Field").select_option("source")
    second.get_by_label("Operator").select_option("starts_with")
    second.get_by_label("Value").fill("a")
    page.get_by_text("Order, chart and groups").click()
    page.get_by_label("Group by").select_option("source")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(condition.get_by_role("alert")).to_have_text("The value must be: number.")
    condition.get_by_label("Value").fill("10")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#count")).to_have_text("2 records", timeout=60_000)
    assert page.evaluate("Chart.getChart('by-time').data.datasets[0].data") == [2]
    assert page.evaluate("Chart.getChart('by-group').data.labels") == ["app"]
    second.get_by_role("link", name="Remove condition 2").click()
    expect(page.locator("#count")).to_have_text("2 records", timeout=60_000)
    page.get_by_role("link", name="amount").click()
    expect(page.locator("#records tbody tr").first).to_contain_text("30", timeout=60_000)
    page.get_by_role("link", name="Clear").click()
    page.get_by_role("link", name="Your last search").click()
    expect(page.locator("[aria-sort=descending]")).to_contain_text("amount", timeout=60_000)
