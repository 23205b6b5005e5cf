"""Take screenshots of all admin pages, light and dark: `python -m tests.browser.screenshots DIR [NAME ...]`."""

# isort: off
import tests.support.servers.plugin  # noqa: F401  # first: it starts the servers, and tells the settings where they are
# isort: on

import os
import sys
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402

from datasets.contracts.keys import issue_token  # noqa: E402
from datasets.tables import records  # noqa: E402
from tests.browser.support.chromium import browser  # noqa: E402
from tests.browser.support.pages import addresses  # noqa: E402
from tests.browser.support.scene import PASSWORD, Scene, furnish  # noqa: E402
from tests.browser.support.site import serving, wait_until, working  # noqa: E402
from tests.conftest import Api, record  # noqa: E402

_SIZES = {"": (1280, 800), "-phone": (390, 844)}


def main(directory: Path, names: list[str]) -> None:
    """Take the screenshots of the named pages, or of all pages."""
    directory.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    scene = furnish()
    with serving() as site, working(), browser() as chromium:
        _send(scene)
        for scheme in ("light", "dark"):
            for suffix, size in _SIZES.items():
                _take(chromium, site, scene, directory, names, scheme, suffix, size)


def _send(scene: Scene) -> None:
    api = Api(issue_token(scene.key), scene.dataset)
    for number in range(60):
        assert api.one(record(country=..., source="web" if number % 3 else "app", amount=number / 4)).status_code == 202
    wait_until(lambda: records.count(scene.dataset) == 60)


def _take(
    chromium: Browser,
    site: str,
    scene: Scene,
    directory: Path,
    names: list[str],
    scheme: str,
    suffix: str,
    size: tuple[int, int],
) -> None:
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(f"{site}/admin/login/")
    if not names or "login" in names:
        page.screenshot(path=directory / f"login-{scheme}{suffix}.png")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.click("[type=submit]")
    for name, path in addresses(scene).items():
        if names and name not in names:
            continue
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.goto(site + path)
        if name == "try":
            body = page.locator("#body").input_value()
            page.fill("#body", body.replace("42.5", '"42.5"').replace('"plan"', '"plant"'))
            page.click("#ask")
        page.wait_for_timeout(700)  # until charts, ledger and previews are shown
        # Make the window as high as the page, so that its sticky footer is at the bottom.
        page.set_viewport_size({"width": size[0], "height": max(size[1], page.evaluate("document.body.scrollHeight"))})
        page.screenshot(path=directory / f"{name}-{scheme}{suffix}.png", full_page=True)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
