"""The rate limit of a browser key, over HTTP."""

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from tests.conftest import Api, record, stored
from tests.ingest.api.browsers.conftest import SHOP, beacon, error_of
from tests.support.sending.at_once import Threads


def limit(key: ApiKey, records_per_minute: int) -> None:
    key.records_per_minute = records_per_minute
    services.save_key(key, changed=("records_per_minute",))


def test_more_than_the_limit_is_refused_and_says_when_to_retry(page: Api, browser_key: ApiKey) -> None:
    limit(browser_key, 10)
    assert page.batch([record()] * 8, Origin=SHOP).status_code == 202
    refused = page.batch([record()] * 3, Origin=SHOP)
    seconds = int(refused.headers["Retry-After"])
    assert 1 <= seconds <= 61
    assert (refused.status_code, refused.json()) == (
        429,
        {
            "error": "Rate limit of this API key exceeded",
            "code": "rate_limited",
            "rate": {"limit": 10, "seconds": 60, "sent": 8, "requested": 3, "remaining": 2},
            "detail": "All pages with this browser key may send 10 records a minute. Nothing was queued or charged.",
        },
    )
    assert refused.headers["RateLimit-Policy"] == '"minute";q=10;w=60'
    assert refused.headers["RateLimit"] == f'"minute";r=2;t={seconds}'
    assert refused.headers["Access-Control-Allow-Origin"] == SHOP
    assert page.batch([record()] * 2, Origin=SHOP).status_code == 202, "a refused request is not counted"


def test_a_batch_that_never_fits_is_too_large(page: Api, browser_key: ApiKey) -> None:
    limit(browser_key, 10)
    refused = page.batch([record()] * 11, Origin=SHOP)
    assert error_of(refused) == (413, "too_many_records")
    assert refused.json()["limit"] == 10
    assert "Retry-After" not in refused.headers


def test_a_new_limit_holds_from_the_next_request_on(page: Api, browser_key: ApiKey) -> None:
    limit(browser_key, 1)
    assert page.one(record(), Origin=SHOP).status_code == 202
    assert error_of(page.one(record(), Origin=SHOP)) == (429, "rate_limited")
    limit(browser_key, 2)
    assert page.one(record(), Origin=SHOP).status_code == 202
    assert error_of(page.one(record(), Origin=SHOP)) == (429, "rate_limited")


def test_the_limit_is_exact_while_many_send(page: Api, browser_key: ApiKey, dataset: Dataset) -> None:
    limit(browser_key, 50)
    with Threads() as pool:
        answers = list(pool.map(lambda _: beacon(page).status_code, range(80)))
    assert sorted(set(answers)) == [202, 429]
    assert answers.count(202) == len(stored(dataset)) == 50


def test_a_retry_is_not_counted_twice(page: Api, browser_key: ApiKey) -> None:
    limit(browser_key, 1)
    for _ in range(3):
        assert page.one(record(), Origin=SHOP, Idempotency_Key="k").status_code == 202
    assert error_of(page.one(record(), Origin=SHOP)) == (429, "rate_limited")


def test_each_key_has_its_own_limit_and_ordinary_keys_have_none(api: Api, page: Api, browser_key: ApiKey) -> None:
    limit(browser_key, 1)
    assert page.one(record(), Origin=SHOP).status_code == 202
    other = services.create_key(project=browser_key.project, name="other", origins=[SHOP], records_per_minute=1)
    assert Api(issue_token(other), page.dataset).one(record(), Origin=SHOP).status_code == 202
    assert api.batch([record()] * 500).status_code == 202
