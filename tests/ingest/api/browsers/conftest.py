"""A browser key, and the requests that a browser sends for a page."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from tests.conftest import Api, record

SHOP, EVIL = "https://shop.example.com", "https://evil.example"


@pytest.fixture
def browser_key(project: Project) -> ApiKey:
    return services.create_key(project=project, name="shop", origins=[SHOP, "http://localhost:3000"])


@pytest.fixture
def page(browser_key: ApiKey, dataset: Dataset) -> Api:
    """A client with the browser key. Its requests name no origin."""
    return Api(issue_token(browser_key), dataset)


def beacon(api: Api, body: Any = None, origin: str | None = SHOP, path: str = "", **headers: str) -> httpx.Response:
    """Send a request like navigator.sendBeacon: the key is in the address, and the body is a text."""
    given = {"Origin": origin} if origin else {}
    address = f"/datasets/{api.dataset.pk}{path}?key={api.token}" if api.dataset else ""
    content_type = headers.pop("content_type", "text/plain;charset=UTF-8")
    return Api(None).post(address, record() if body is None else body, content_type, **given, **headers)


def preflight(path: str, origin: str = SHOP, method: str = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return Api(None).request("OPTIONS", path, headers=headers)


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


Send = Callable[[Api], httpx.Response]
