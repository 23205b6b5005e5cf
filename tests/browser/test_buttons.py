"""Press every button once, and send every form empty and filled: as staff, and as superuser.

In CI, a superuser opens the pages that staff does not see. `make long` opens all pages, as staff and as a superuser.
No page may answer with a 5xx or with JSON, no script may fail, and every form must have fields.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Response
from playwright.sync_api import TimeoutError as TooSlow

from tests.browser.conftest import LogIn
from tests.browser.support.pages import addresses
from tests.browser.support.scene import Scene

# Pages that delete or end something come last, because afterwards the other pages of the same object are different.
_LAST = ("grace-end", "edit", "replay", "rotate", "revoke", "discard", "delete", "password")
_HIDDEN = ("user", "group", "failed", "quota")  # pages that staff does not see
_FRAME = "nav, header, aside#nav-sidebar, #nav-sidebar, #header-inner, [data-command]"
_SKIPPED = re.compile("log ?out", re.IGNORECASE)
_NUMBER = count()


@dataclass
class Watch:
    """Collects the errors of a page's responses and scripts."""

    found: list[str] = field(default_factory=list)
    where: str = ""

    def note(self, text: str) -> None:
        self.found.append(f"{self.where}: {text}")

    def on_response(self, response: Response) -> None:
        kind = response.headers.get("content-type", "")
        is_page = response.request.is_navigation_request()
        if response.status >= 500 or (is_page and "json" in kind):
            self.note(f"{response.request.method} {response.url} answered {response.status} {kind}")

    def on_console(self, said: ConsoleMessage) -> None:
        # An empty sample is answered with 400, which the page's script shows as text.
        if said.type == "error" and not said.location["url"].endswith("/infer/"):
            self.note(f"console: {said.text}")

    def on_failure(self, request: Request) -> None:
        if request.is_navigation_request() and "ERR_ABORTED" not in (request.failure or ""):
            self.note(f"{request.url} failed: {request.failure}")


def watched(page: Page) -> Watch:
    watch = Watch()
    page.on("response", watch.on_response)
    page.on("requestfailed", watch.on_failure)
    page.on("pageerror", lambda error: watch.note(f"script: {error}"))
    page.on("console", watch.on_console)
    page.on("dialog", lambda dialog: dialog.accept())
    return watch


def in_order(scene: Scene, *, shared: bool, hidden: bool) -> list[tuple[str, str]]:
    """Return the pages that staff sees, and the pages that only superusers see. Pages that delete or end come last."""
    wanted = {False: shared, True: hidden}
    pages = [(name, path) for name, path in addresses(scene).items() if wanted[name.startswith(_HIDDEN)]]
    return sorted(pages, key=lambda each: next((n for n, word in enumerate(_LAST, 1) if word in each[0]), 0))


_BUTTONS = """(frame) => {
  const seen = {};
  return [...document.querySelectorAll('button, input[type=submit], summary')].map((each, index) => {
    const box = each.getBoundingClientRect();
    const label = (each.ariaLabel || each.value || each.textContent || each.title || '').trim().replace(/\\s+/g, ' ');
    const framed = Boolean(each.closest(frame));
    const shown = box.width > 0 && box.height > 0 && !each.disabled && each.checkVisibility({checkVisibilityCSS: true});
    const key = label.slice(0, 60) + '|' + each.name + '|' + (each.form?.getAttribute('action') || '').slice(-30);
    const again = seen[key];
    seen[key] = true;
    return {index, key, framed, shown: shown && !again};
  }).filter((each) => each.shown);
}"""


# Closed details also contain buttons.
_OPEN = "() => document.querySelectorAll('main details, #content details').forEach((each) => { each.open = true; })"


def press_everything(page: Page, watch: Watch, pages: list[tuple[str, str]]) -> int:
    """Press each button of each page once, on a fresh page. Buttons of the frame are pressed on one page only."""
    framed: set[str] = set()
    pressed = 0
    for name, path in pages:
        watch.where = name
        page.goto(path)
        page.evaluate(_OPEN)
        buttons = page.evaluate(_BUTTONS, _FRAME)
        is_fresh = True
        for button in buttons:
            if _SKIPPED.search(button["key"]) or (button["framed"] and button["key"] in framed):
                continue
            if button["framed"]:
                framed.add(button["key"])
            if not is_fresh:
                page.goto(path)
                page.evaluate(_OPEN)
            watch.where = f"{name}, {button['key']}"
            try:
                press(page, page.locator("button, input[type=submit], summary").nth(button["index"]))
            except TooSlow:
                watch.note("could not be pressed")
            pressed += 1
            is_fresh = False
    return pressed


def press(page: Page, button: Locator) -> None:
    # When the schema has been checked, the page replaces the commands to copy.
    page.wait_for_function(
        "!document.getElementById('id_schema')?.value || !!document.querySelector('#schema-preview *')"
    )
    page.evaluate(_OPEN)
    button.click(timeout=5_000, no_wait_after=False)
    page.wait_for_load_state("load")


def good(name: str, kind: str) -> str | None:
    """Return a valid value for a field, or None to keep its value."""
    number = next(_NUMBER)
    values = {
        "slug": f"slug-{number}",
        "username": f"user-{number}",
        "email": "a@example.com",
        "member_names": "",
        "name": f"Name {number}",
        "description": "What it is for.",
        "old_password": "a long password for tests",
    }
    if kind == "password":
        return values.get(name, "another long password 4711")
    return values.get(name)


def fill(page: Page, choices: Mapping[str, int], *, well: bool) -> None:
    """Fill in the fields of the page's form, or empty them."""
    fields = page.locator("#content-main form input, #content-main form textarea:not(#sample)")
    for each in fields.all():
        name, kind = each.get_attribute("name") or "", each.get_attribute("type") or "text"
        is_text = kind in ("text", "password", "email", "number", "date")
        if name.startswith("_") or not is_text or not each.is_visible() or not each.is_editable():
            continue
        value = good(name, kind) if well else ""
        if value is not None:
            each.fill(value)
    for name, chosen in choices.items() if well else ():
        select = page.locator(f"#content-main select[name={name}]")
        if select.count() and not select.input_value():
            select.evaluate("(each, id) => each.append(new Option('it', id, true, true))", str(chosen))


def send_forms(page: Page, watch: Watch, pages: list[tuple[str, str]], choices: Mapping[str, int]) -> int:
    """Send the forms that add or change an object, empty and filled. Return how many were sent."""
    sent = 0
    for name, path in pages:
        if not name.endswith("-add") and name not in _CHANGED:
            continue
        for well in (False, True):
            watch.where = f"{name}, {'filled in' if well else 'emptied'}"
            page.goto(path)
            if not page.locator("#content-main form input:not([type=hidden])").count():
                watch.note("has no field")
                continue
            fill(page, choices, well=well)
            page.locator("[name=_save], #content-main form [type=submit]").last.click()
            page.wait_for_load_state("load")
            sent += 1
            is_refused = page.locator(".errorlist, .errornote, [role=alert], .ours-bad, .text-red-600").count() > 0
            if page.url.endswith(path) and not page.locator("#content-main form, #token").count():
                watch.note("lost its form")
            if not well and name.endswith("-add") and not is_refused:
                watch.note("does not say what is missing")
            if well and page.url.endswith(path) and is_refused:
                watch.note(f"refused: {page.locator('#content-main').inner_text()[:300]}")
    return sent


_CHANGED = ("project", "dataset", "key", "token", "quota", "user", "group")


@pytest.mark.parametrize(
    ("username", "shared", "hidden", "forms", "buttons"),
    [
        pytest.param("alice", True, False, 6, 30, marks=pytest.mark.long),
        ("admin", False, True, 6, 15),
        pytest.param("admin", True, True, 12, 45, marks=pytest.mark.long),
    ],
)
def test_every_button_and_every_form_works(
    log_in: LogIn, scene: Scene, username: str, shared: bool, hidden: bool, forms: int, buttons: int
) -> None:
    page: Any = log_in(username)
    watch = watched(page)
    pages = in_order(scene, shared=shared, hidden=hidden)
    scene.alice.user_permissions.add(Permission.objects.get(codename="add_project"))
    choices = {"project": scene.project.pk, "user": scene.admin.pk}
    sent = send_forms(page, watch, [each for each in pages if "password" not in each[0]], choices)
    pressed = press_everything(page, watch, pages)
    assert not watch.found, "\n".join(watch.found)
    assert sent > forms
    assert pressed > buttons, pressed
