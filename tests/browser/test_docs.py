"""The page `/docs` shows both APIs. It loads nothing from other sites."""

from playwright.sync_api import Browser

from ingest.api.openapi import description


def test_the_page_shows_every_operation(browser: Browser, address: str) -> None:
    page = browser.new_page(base_url=address)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/docs")
    page.wait_for_selector(".opblock")
    operations = sum(len(methods) for methods in description()["paths"].values())
    assert page.locator(".opblock").count() == operations
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {address.split("/")[2]}
    page.locator(".opblock", has_text="/api/projects").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.get_by_text("Missing personal access token").first.wait_for()
    page.close()
    assert [each for each in complaints if "401" not in each] == []
