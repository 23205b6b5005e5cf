"""Fixtures of the browser tests: a browser, the site with a worker, and users."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page

from tests.browser.support import chromium, site
from tests.browser.support.scene import PASSWORD, Scene, furnish


@pytest.fixture(scope="module")  # other tests must not see the environment that this fixture sets
def browser() -> Iterator[Browser]:
    with chromium.browser() as launched:
        yield launched


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """Use a fast hash, because these tests log in often."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def address(transactional_db: None) -> Iterator[str]:
    """Return the URL of the site, which has a worker."""
    with site.serving() as served, site.working():
        yield served


@pytest.fixture
def scene(transactional_db: None) -> Scene:
    return furnish()


@pytest.fixture
def person() -> User:
    """Return a staff user who is not a superuser."""
    return User.objects.create_user("alice", password=PASSWORD, is_staff=True)


LogIn = Callable[..., Page]


@pytest.fixture
def log_in(browser: Browser, address: str) -> Iterator[LogIn]:
    """Return a function that logs a user in, in a new window. If a script of a page fails, the test fails."""
    contexts, complaints = [], []

    def enter(username: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Page:
        context = browser.new_context(
            base_url=address,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/login/")
        page.fill("[name=username]", username)
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_url("**/admin/")
        return page

    yield enter
    for context in contexts:
        context.close()
    assert complaints == []
