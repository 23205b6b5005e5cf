"""The errors of browser keys, each with a request that gets it. These are rows for the table in test_errors.py."""

from collections.abc import Callable
from typing import Any

import httpx

from config.common import redis
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey
from tests.conftest import Api, record
from tests.ingest.api.browsers.conftest import EVIL, SHOP

EVERY_PAGE = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag, Idempotent-Replayed, Location, Preference-Applied, RateLimit, "
    "RateLimit-Policy, Retry-After, X-Request-Id",
}
PAGES_OF_THE_SHOP = {**EVERY_PAGE, "Access-Control-Allow-Origin": SHOP}


def with_browser_key(origin: str, count: int = 1) -> Callable[[Api], httpx.Response]:
    """Send records from a page of this origin. The key is for pages of the shop, and allows one record per minute."""

    def send(api: Api) -> httpx.Response:
        assert api.dataset is not None
        # Do not use the service for this: it would write a new revision of the project.
        key = ApiKey.objects.create(project=api.dataset.project, name="a", origins=[SHOP], records_per_minute=1)
        page = Api(issue_token(key), api.dataset)
        return [page.one(record(), Origin=origin) for _ in range(count)][-1]

    return send


def too_fast(api: Api) -> httpx.Response:
    """Send two records in the same second of Redis's clock."""
    while True:
        second = redis.client().time()[0]
        response = with_browser_key(SHOP, count=2)(api)
        if redis.client().time()[0] == second:
            return response


def in_the_address(api: Api) -> httpx.Response:
    assert api.dataset is not None
    return Api(None).post(f"/datasets/{api.dataset.pk}?key={api.token}", record())


OF_BROWSER_KEYS: list[tuple[Any, ...]] = [
    (
        403,
        "Origin not allowed for this API key",
        "origin_not_allowed",
        with_browser_key(EVIL),
        {"detail": f"Pages at {EVIL} may not use this key. If they should, add this origin to the key."},
        {},
    ),
    (
        403,
        "Use a browser key in web pages, not an ordinary API key",
        "browser_key_required",
        lambda api: api.one(record(), Origin=SHOP),
        {
            "detail": "Everybody who opens the page can read this key: revoke it, and issue a browser key for the "
            "page. If a server of yours has passed the request on, remove the header Origin there."
        },
        EVERY_PAGE,
    ),
    (
        403,
        "Only a browser key may be in the address",
        "api_key_in_address",
        in_the_address,
        {
            "detail": "Send this key in the header Authorization: Bearer. Addresses are kept in logs, so rotate the "
            "key now."
        },
    ),
    (
        429,
        "Rate limit of this API key exceeded",
        "rate_limited",
        too_fast,
        {
            "rate": {"limit": 1, "seconds": 60, "sent": 1, "requested": 1, "remaining": 0},
            "detail": "All pages with this browser key may send 1 record a minute. Nothing was queued or charged.",
        },
        {
            "Retry-After": "61",
            "RateLimit-Policy": '"minute";q=1;w=60',
            "RateLimit": '"minute";r=0;t=61',
            **PAGES_OF_THE_SHOP,
        },
    ),
]
