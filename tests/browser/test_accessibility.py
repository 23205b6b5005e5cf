"""axe-core finds no serious problem on any page: light and dark, on a desktop and on a phone."""

import json
from importlib.resources import files
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import LogIn
from tests.browser.support.pages import addresses
from tests.browser.support.scene import Scene

_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
_SERIOUS = ("serious", "critical")


def findings(page: Page, **options: Any) -> list[dict[str, Any]]:
    """Return the serious problems that axe-core finds on a page, with their elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    found: dict[str, Any] = page.evaluate(
        "options => axe.run(document, {resultTypes: ['violations'], ...options})", options
    )
    return [
        {"rule": each["id"], "nodes": [node["html"][:200] + node["failureSummary"] for node in each["nodes"][:3]]}
        for each in found["violations"]
        if each["impact"] in _SERIOUS
    ]


def wider(page: Page) -> dict[int, int]:
    """Return by how many pixels a page is wider than the window, on a phone and on a desktop."""
    beyond = {}
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        beyond[width] = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return {width: pixels for width, pixels in beyond.items() if pixels > 0}


def test_axe_finds_nothing_serious_and_pages_fit(log_in: LogIn, scene: Scene) -> None:
    page, found = log_in("admin"), {}
    for name, path in addresses(scene).items():
        page.emulate_media(color_scheme="light")
        page.goto(path)
        problems: list[Any] = findings(page)
        page.emulate_media(color_scheme="dark")
        page.evaluate("document.documentElement.classList.add('dark')")  # as the admin's script does at its start
        # In dark mode, a page has the same elements in other colors.
        problems += findings(page, runOnly={"type": "rule", "values": ["color-contrast"]})
        if beyond := wider(page):
            problems.append(beyond)
        if page.locator("main, [role=main]").count() != 1:
            problems.append("has no main part, or several")
        if problems:
            found[name] = problems
    assert not found, json.dumps(found, indent=1)


def test_every_page_begins_with_a_link_to_its_main_part(log_in: LogIn, scene: Scene) -> None:
    page = log_in("admin")
    page.keyboard.press("Tab")
    expect(page.locator(".ours-skip")).to_be_focused()
    expect(page.locator(".ours-skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main, [role=main]")).to_be_focused()


def test_a_wide_table_does_not_repeat_its_labels_in_the_cells(log_in: LogIn, scene: Scene) -> None:
    page = log_in("admin")
    for name in ("history", "keys", "users"):
        page.goto(addresses(scene)[name])
        shown = "cells => cells.map(each => getComputedStyle(each, '::before').display)"
        assert set(page.locator("[data-label]").evaluate_all(shown)) == {"none"}, name
