"""The admin by keyboard only: Tab reaches every control and shows the focus, and common tasks work."""

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from datasets.models import ApiKey
from datasets.tables import records
from ingest.models import QuarantinedEntry
from tests.browser.conftest import LogIn
from tests.browser.support.pages import addresses
from tests.browser.support.scene import Scene
from tests.browser.support.site import wait_until

_TOUR = Path(__file__).with_name("keyboard.js").read_text()
_TAB = {"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until an element that matches the selector has the focus."""
    page.wait_for_selector(selector, state="attached")
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def test_tab_reaches_every_control_and_shows_the_focus(log_in: LogIn, scene: Scene) -> None:
    page, found = log_in("admin"), {}
    page.add_init_script(_TOUR)
    keys = page.context.new_cdp_session(page)
    for name, path in addresses(scene).items():
        page.goto(path)
        controls = presses = page.evaluate("tour.begin()")
        assert controls > 5, name
        for _ in range(presses):
            keys.send("Input.dispatchKeyEvent", _TAB)
        # Tab must be pressed once for each part of a date, and once for a scrollable element.
        while presses < 3 * controls and page.evaluate("tour.missing().length"):
            for _ in range(10):
                keys.send("Input.dispatchKeyEvent", _TAB)
            presses += 10
        if problems := page.evaluate("tour.problems()"):
            found[name] = problems
    assert not found, json.dumps(found, indent=1)


def test_a_dataset_is_defined(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto("/admin/datasets/dataset/add/?project=" + str(scene.project.pk))
    tab_to(page, "[name=name]")
    page.keyboard.type("Keyed")
    tab_to(page, ".ours-name")
    page.keyboard.type("first")
    page.keyboard.press("Enter")
    page.keyboard.type("second")
    tab_to(page, ".ours-type")
    page.keyboard.type("num")
    tab_to(page, "[name=_save]")
    page.keyboard.press("Enter")
    expect(page.get_by_text("was added successfully")).to_be_visible()
    fields = scene.project.datasets.get(name="Keyed").versions.get().field_list()
    assert [(field.name, field.type) for field in fields] == [("first", "string"), ("second", "number")]


def test_record_is_tried_sent_and_found(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/try/")
    tab_to(page, "#body")
    body = page.locator("#body").input_value()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(body.replace("42.5", '"42.5"'))
    tab_to(page, "#ask")
    page.keyboard.press("Enter")
    expect(page.locator("#try-answer .ours-wrong")).to_contain_text("expected number, received string")
    tab_to(page, "#try-answer .ours-marked")  # a scrollable element takes the focus
    page.reload()
    tab_to(page, "#send")
    page.keyboard.press("Enter")
    expect(page.locator("#try-answer [data-status='202']")).to_be_visible()
    tab_to(page, "#try-answer a[href*='receipt=']")
    page.keyboard.press("Enter")
    expect(page.locator("#receipt-status")).to_contain_text("The records of this receipt")
    wait_until(lambda: records.count(scene.dataset) == 1)
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/change/")
    for trace, rows in (("nothing has this", 0), ("", 1)):
        tab_to(page, "#trace")  # Tab selects the text of the input
        page.keyboard.press("Delete")
        page.keyboard.type(trace)
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(rf"trace={trace.replace(' ', '.')}(&|$)"))
        expect(page.locator("#records tbody tr")).to_have_count(rows)


def test_a_key_is_created_copied_and_revoked(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto(f"/admin/datasets/apikey/add/?project={scene.project.pk}")
    tab_to(page, "[name=name]")
    page.keyboard.type("keyed")
    tab_to(page, "[name=ends]")
    page.keyboard.type("in 30")
    tab_to(page, "[name=_save]")
    page.keyboard.press("Enter")
    tab_to(page, "[data-copy=token]")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()  # even without a permission for the clipboard
    page.context.grant_permissions(["clipboard-read"])
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#token").input_value()
    key = ApiKey.objects.get(name="keyed")
    assert key.expires_at is not None
    page.goto(f"/admin/datasets/apikey/{key.pk}/change/")
    tab_to(page, "a[href$='/revoke/']")
    page.keyboard.press("Enter")
    tab_to(page, "button.ours-danger")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Revoked: “keyed”")).to_be_visible()
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_selected_quarantine_entries_are_replayed(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto("/admin/ingest/quarantinedentry/")
    tab_to(page, f".action-select[value='{scene.entry.pk}']")
    page.keyboard.press("Space")
    tab_to(page, "select[name=action]")
    # At the end of the page, the bar with the actions is below the last row.
    size = page.viewport_size
    page.set_viewport_size({"width": 1280, "height": 300})
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    last, bar = page.locator("#result_list").bounding_box(), page.locator("#changelist-actions").bounding_box()
    assert size
    assert last
    assert bar
    assert last["y"] + last["height"] <= bar["y"]
    page.set_viewport_size(size)
    page.keyboard.type("Replay")
    tab_to(page, "button[name=index]")
    page.keyboard.press("Enter")
    expect(page.get_by_text("back in the queue")).to_be_visible()
    wait_until(lambda: QuarantinedEntry.objects.count() == 2)  # the replay fails for the same reason


def test_filters_and_user_menu_open_and_close(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto("/admin/datasets/apikey/")
    tab_to(page, "[x-on\\:click='filterOpen = true']")
    page.keyboard.press("Enter")
    expect(page.locator("#changelist-filter :focus")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#changelist-filter :focus")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#changelist-filter")).to_be_hidden()
    expect(page.locator("[x-on\\:click='filterOpen = true']")).to_be_focused()
    tab_to(page, "[x-on\\:click^='openUserLinks =']")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Log out")).to_be_visible()
    tab_to(page, "[x-on\\:click*=\"('dark')\"]")
    page.keyboard.press("Space")
    expect(page.locator("html")).to_have_class(re.compile("dark"))
    tab_to(page, "#logout-form button")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/admin/logout/"))
