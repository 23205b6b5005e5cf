"""Try it in a browser: it marks the place where the JSON of a body is invalid, and sends a request once."""

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


def test_double_click_on_a_phone_sends_once_and_shows_the_answer(log_in: LogIn, scene: Scene) -> None:
    scene.project.name = scene.dataset.name = "W" * 100
    scene.project.save()
    scene.dataset.save()
    page, sent = log_in("alice", width=390, height=844), []
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # a long name does not widen the page
    page.goto("/admin/ingest/quarantinedentry/")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".field-short_reason").first.evaluate("(each) => each.scrollHeight <= each.clientHeight")
    page.on("request", lambda request: sent.append(request.method) if request.url.endswith("/answer/") else None)
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/try/")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#send").dblclick()
    expect(page.locator("#try-answer [data-status='202']")).to_be_in_viewport()
    page.fill("#body", "x" * 2_700_000)
    page.click("#ask")
    expect(page.locator("#try-answer")).to_contain_text("The body has 2.7 MB, but this page takes at most 2.6 MB.")
    assert sent == ["POST"]


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
