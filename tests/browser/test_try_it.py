"""Try it in a browser: it marks and selects the place where the JSON of a body is invalid."""

from playwright.sync_api import expect

from tests.browser.conftest import LogIn
from tests.browser.support.scene import Scene


def test_place_is_marked_and_selected_in_the_body(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/try/")
    page.fill("#body", '{\n "é": "😀",\n "amount": True\n}')
    page.click("#ask")
    expect(page.locator("#try-answer mark")).to_have_text("T")
    page.get_by_role("button", name="Show this place in the body").click()
    selected = "document.activeElement.value.slice(document.activeElement.selectionStart)"
    assert page.evaluate(selected) == "True\n}"


def test_refused_body_is_tried_again(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto("/admin/")
    page.locator("a[href='/admin/refusals/']").first.click()
    page.locator("#id_code").select_option("invalid_field")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#refusals > li")).to_have_count(1)
    page.locator("#refusals summary").click()
    expect(page.locator("#refusals pre")).to_contain_text('"amount": "12.5"')
    page.get_by_role("link", name="Try this body").click()
    page.click("#ask")
    expect(page.locator("#try-answer")).to_contain_text("Invalid number field: amount")
