"""Every page, as axe-core sees it: light and dark, wide and on a phone; and with the keyboard alone."""

import json
from importlib.resources import files
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import LogIn
from tests.browser.pages import addresses
from tests.browser.scene import Scene

_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
_SERIOUS = ("serious", "critical")


def findings(page: Page, rules: list[str] | None = None) -> list[dict[str, Any]]:
    """What axe-core finds serious on a page, with the elements."""
    page.evaluate(_AXE)
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found: dict[str, Any] = page.evaluate("options => axe.run(document, options)", options)
    return [
        {"rule": each["id"], "nodes": [node["html"][:200] + node["failureSummary"] for node in each["nodes"][:3]]}
        for each in found["violations"]
        if each["impact"] in _SERIOUS
    ]


def wider(page: Page) -> dict[int, int]:
    """By how much a page is wider than a desk's window, or a phone's: width -> pixels beyond it."""
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


def test_every_page_is_readable_in_the_dark_and_no_wider_than_its_window(log_in: LogIn, scene: Scene) -> None:
    page, found = log_in("admin", dark=True), {}
    for name, path in addresses(scene).items():
        page.goto(path)
        beyond = wider(page)
        if problems := [*findings(page, ["color-contrast"]), *([beyond] if beyond else [])]:
            found[name] = problems
    assert not found, json.dumps(found, indent=1)


def test_a_dataset_is_defined_with_the_keyboard_alone(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto("/admin/datasets/dataset/add/?project=" + str(scene.project.pk))

    def tab_to(selector: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    tab_to("[name=name]")
    page.keyboard.type("Keyed")
    tab_to(".ours-name")
    page.keyboard.type("first")
    page.keyboard.press("Enter")
    page.keyboard.type("second")
    tab_to(".ours-type")
    page.keyboard.type("num")
    tab_to("[name=_save]")
    page.keyboard.press("Enter")
    expect(page.get_by_text("was added successfully")).to_be_visible()
    fields = scene.project.datasets.get(name="Keyed").versions.get().field_list()
    assert [(field.name, field.type) for field in fields] == [("first", "string"), ("second", "number")]
