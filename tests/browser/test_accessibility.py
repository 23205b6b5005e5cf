"""axe-core finds no serious problem on any page: light and dark, on a desktop and on a phone."""

import json
from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

from tests.browser.conftest import LogIn
from tests.browser.support.pages import addresses
from tests.browser.support.scene import Scene

_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
_SERIOUS = ("serious", "critical")


def findings(page: Page) -> list[dict[str, Any]]:
    """Return the serious problems that axe-core finds on a page, with their elements."""
    page.evaluate(_AXE)
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        {"rule": each["id"], "nodes": [node["html"][:200] + node["failureSummary"] for node in each["nodes"][:3]]}
        for each in found["violations"]
        if each["impact"] in _SERIOUS
    ]


def wider(page: Page) -> dict[int, int]:
    """Return by how many pixels a page is wider than the window, for the widths of a phone and a desktop."""
    beyond = {}
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        beyond[width] = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return {width: pixels for width, pixels in beyond.items() if pixels > 0}


def test_axe_finds_nothing_serious(log_in: LogIn, scene: Scene) -> None:
    page, found = log_in("admin"), {}
    for name, path in addresses(scene).items():
        page.goto(path)
        if problems := findings(page):
            found[name] = problems
    assert not found, json.dumps(found, indent=1)


def test_axe_finds_nothing_serious_in_dark_and_pages_fit(log_in: LogIn, scene: Scene) -> None:
    page, found = log_in("admin", dark=True), {}
    for name, path in addresses(scene).items():
        page.goto(path)
        beyond = wider(page)
        if problems := [*findings(page), *([beyond] if beyond else [])]:
            found[name] = problems
    assert not found, json.dumps(found, indent=1)
