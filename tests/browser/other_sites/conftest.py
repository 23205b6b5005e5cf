"""Pages of other sites in Chromium, and a running service with a key for one of them."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from config.common import redis
from datasets import services
from datasets.models import ApiKey, Dataset
from ingest.queue import redis_keys
from tests.browser.other_sites.elsewhere import elsewhere
from tests.browser.support.site import serving

OpenPage = Callable[[str], Page]


@pytest.fixture
def service(transactional_db: None) -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def port() -> Iterator[int]:
    """Return the port of the pages of other sites."""
    with elsewhere() as port:
        yield port


@pytest.fixture
def shop(dataset: Dataset, port: int) -> ApiKey:
    """Return a browser key for pages at shop.localhost."""
    return services.create_key(project=dataset.project, name="shop", origins=[f"http://shop.localhost:{port}"])


@pytest.fixture
def visit(browser: Browser, port: int) -> Iterator[OpenPage]:
    """Return a function that opens a page of another site."""
    context = browser.new_context()

    def opened(host: str) -> Page:
        page = context.new_page()
        page.goto(f"http://{host}.localhost:{port}/")
        return page

    yield opened
    context.close()


def arrived(dataset: Dataset) -> int:
    """Return how many requests to a dataset were accepted."""
    return int(redis.client().xlen(redis_keys.stream(dataset.pk)))
