"""A limit: its meaning, its headers in answers, and that a change applies to the next request."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from pytest_django import Settings

from config.common import clock, redis
from datasets import services
from datasets.models import Dataset, Project
from quotas.models import QuotaLimit
from quotas.services import LimitRefused, current, current_many, delete_limit, flush, set_limit
from tests.conftest import Api, record
from tests.support.books import Books, balanced, books, limit_in_force
from tests.support.servers.outages import redis_away

Move = Callable[[datetime], None]


@pytest.fixture
def move(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Return a function that sets the service's clock."""

    def to(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    return to


def ratelimit(answer: httpx.Response) -> tuple[str | None, str | None]:
    return answer.headers.get("RateLimit-Policy"), answer.headers.get("RateLimit")


# -- answers ------------------------------------------------------------------------------------------


def test_answers_tell_the_remaining_quota(api: Api, owner: User, move: Move) -> None:
    move(datetime(2026, 11, 24, 3, tzinfo=UTC))
    set_limit(owner, 1000)
    policy = '"monthly";q=1000;w=2592000'
    assert ratelimit(api.one(record())) == (policy, '"monthly";r=999;t=594000')
    assert ratelimit(api.batch([record()] * 997)) == (policy, '"monthly";r=2;t=594000')
    refused = api.batch([record()] * 5)
    assert (refused.status_code, refused.json()) == (
        429,
        {
            "error": "Monthly dataset quota exceeded",
            "code": "quota_exceeded",
            "quota": {
                "limit": 1000,
                "used": 998,
                "requested": 5,
                "remaining": 2,
                "period": "2026-11",
                "resets_at": "2026-12-01T00:00:00Z",
            },
        },
    )
    assert (ratelimit(refused), refused.headers["Retry-After"]) == ((policy, '"monthly";r=2;t=594000'), "3600")
    assert ratelimit(api.batch([record()] * 2)) == (policy, '"monthly";r=0;t=594000')
    assert ratelimit(api.one(record(amount="1"))) == (None, None), "only a 202 and a 429 have the headers"


def test_without_a_limit_answers_tell_no_quota(api: Api, owner: User) -> None:
    assert ratelimit(api.one(record())) == (None, None)
    set_limit(owner, -1)
    assert ratelimit(api.batch([record()] * 1000)) == (None, None)
    assert books(owner).total == 1001


def test_a_limit_of_0_blocks_all_records(api: Api, owner: User) -> None:
    set_limit(owner, 0)
    for answer in (api.one(record()), api.batch([record()])):
        assert answer.status_code == 429
        quota = answer.json()["quota"]
        assert (quota["limit"], quota["used"], quota["requested"], quota["remaining"]) == (0, 0, 1, 0)
        assert (answer.headers["RateLimit"] or "").startswith('"monthly";r=0;')
    assert books(owner).delta is None


def test_remaining_is_0_when_the_limit_is_below_usage(api: Api, owner: User) -> None:
    assert api.batch([record()] * 5).status_code == 202
    set_limit(owner, 3)
    answer = api.one(record())
    quota = answer.json()["quota"]
    assert (quota["limit"], quota["used"], quota["remaining"]) == (3, 5, 0)
    assert answer.headers["RateLimit"].startswith('"monthly";r=0;')


# -- the keys -----------------------------------------------------------------------------------------


def test_redis_keys_are_as_in_the_contract(api: Api, owner: User, move: Move) -> None:
    move(datetime(2026, 11, 24, 3, tzinfo=UTC))
    set_limit(owner, 1000)
    assert api.batch([record()] * 42).status_code == 202
    expected = {
        f"quota_limit:datasets:{owner.pk}": b"1000",
        f"usage_total:datasets:{owner.pk}:2026-11": b"42",
        f"usage_delta:datasets:{owner.pk}:2026-11": b"42",
    }
    found = {key.decode() for key in redis.client().scan_iter(f"*:datasets:{owner.pk}*")}
    assert found == set(expected)
    assert {key: redis.client().get(key) for key in expected} == expected
    assert {redis.client().type(key) for key in expected} == {b"string"}
    flush()
    assert redis.client().get(f"usage_delta:datasets:{owner.pk}:2026-11") is None
    assert redis.client().get(f"usage_total:datasets:{owner.pk}:2026-11") == b"42"
    set_limit(owner, -1)
    assert redis.client().get(f"quota_limit:datasets:{owner.pk}") == b"-1"


# -- changes ------------------------------------------------------------------------------------------


def test_a_new_limit_applies_to_the_next_request(api: Api, owner: User) -> None:
    for limit, status in ((0, 429), (1, 202), (1, 429), (-1, 202), (2, 429), (3, 202), (0, 429)):
        set_limit(owner, limit)
        assert api.one(record()).status_code == status, limit


def test_a_user_without_a_limit_has_the_default(api: Api, owner: User, settings: Settings) -> None:
    settings.DEFAULT_QUOTA_LIMIT = 2
    assert [api.one(record()).status_code for _ in range(3)] == [202, 202, 429]
    set_limit(owner, 3)
    assert [api.one(record()).status_code for _ in range(2)] == [202, 429]
    delete_limit(QuotaLimit.objects.get())
    answer = api.one(record())
    assert (answer.status_code, answer.json()["quota"]["limit"]) == (429, 2)
    assert (current(owner.pk).limit, current_many([owner.pk])[owner.pk].limit) == (2, 2)


def test_records_are_charged_to_the_projects_new_owner(
    api: Api, project: Project, owner: User, settings: Settings
) -> None:
    settings.DEFAULT_QUOTA_LIMIT = 100
    set_limit(owner, 3)
    assert [api.batch([record()] * 3).status_code for _ in range(2)] == [202, 429]
    project.owner = buyer = User.objects.create_user("buyer")
    services.save_project(project, changed=["owner"])
    answer = api.batch([record()] * 3)
    assert (answer.status_code, answer.headers["RateLimit"].split(";")[1]) == (202, "r=97")
    flush()
    assert (books(owner), books(buyer)) == (balanced(3), balanced(3))


def test_an_invalid_limit_is_refused_and_changes_nothing(owner: User) -> None:
    set_limit(owner, 5)
    for wrong in (-2, 2**53, 2**63):
        with pytest.raises(ValidationError):
            set_limit(owner, wrong)
    assert (limit_in_force(owner), QuotaLimit.objects.get().records_per_month) == (5, 5)


def test_without_redis_a_new_limit_is_refused(owner: User) -> None:
    set_limit(owner, 5)
    row = QuotaLimit.objects.get()
    with redis_away():
        with pytest.raises(LimitRefused, match="Redis does not answer"):
            set_limit(owner, 6)
        with pytest.raises(LimitRefused):
            delete_limit(row)
    assert QuotaLimit.objects.get().records_per_month == 5
    assert limit_in_force(owner) == 5


def test_the_maximum_limit_is_counted_exactly(api: Api, owner: User) -> None:
    set_limit(owner, 2**53 - 1)
    answer = api.one(record())
    assert answer.headers["RateLimit-Policy"].startswith(f'"monthly";q={2**53 - 1};')
    assert answer.headers["RateLimit"].startswith(f'"monthly";r={2**53 - 2};')


# -- the month ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boundary", "old", "new", "after", "window"),
    [
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-11", "2026-12", "2027-01-01T00:00:00Z", 31 * 86_400),
        (datetime(2027, 1, 1, tzinfo=UTC), "2026-12", "2027-01", "2027-02-01T00:00:00Z", 31 * 86_400),
        (datetime(2028, 2, 1, tzinfo=UTC), "2028-01", "2028-02", "2028-03-01T00:00:00Z", 29 * 86_400),
    ],
)
def test_a_new_month_has_new_counters_and_flushes_the_old(
    api: Api, owner: User, move: Move, boundary: datetime, old: str, new: str, after: str, window: int
) -> None:
    move(boundary - timedelta(seconds=1.5))
    set_limit(owner, 5)
    assert ratelimit(api.batch([record()] * 4))[1] == '"monthly";r=1;t=1'
    flush()
    assert api.one(record()).status_code == 202
    refused = api.one(record())
    quota = refused.json()["quota"]
    assert (quota["period"], quota["resets_at"]) == (old, f"{boundary:%Y-%m-%dT%H:%M:%SZ}")
    assert refused.headers["Retry-After"] == "2"  # a client that waits for 2 seconds is not too early
    move(boundary - timedelta(microseconds=1))
    refused = api.one(record())
    assert (refused.headers["Retry-After"], refused.headers["RateLimit"]) == ("1", '"monthly";r=0;t=0')

    move(boundary)
    assert ratelimit(api.batch([record()] * 3)) == (f'"monthly";q=5;w={window}', f'"monthly";r=2;t={window}')
    quota = api.batch([record()] * 3).json()["quota"]
    assert (quota["period"], quota["resets_at"], quota["used"]) == (new, after, 3)
    assert (books(owner, old), books(owner, new)) == (Books(5, 1, True, 4), Books(3, 3, True, None))
    flush()
    assert (books(owner, old), books(owner, new)) == (balanced(5), balanced(3))


def test_counters_of_a_month_expire_after_the_month(api: Api, dataset: Dataset, owner: User) -> None:
    assert api.one(record()).status_code == 202
    flush()  # a flush follows each charge
    seconds = redis.client().ttl(f"usage_total:datasets:{owner.pk}:{current(owner.pk).period}")
    assert 60 * 86_400 < seconds < 120 * 86_400


@pytest.mark.parametrize(
    ("left", "seconds"), [(timedelta(days=9), "3600"), (timedelta(hours=1), "3600"), (timedelta(minutes=59), "3541")]
)
def test_retry_after_is_at_most_an_hour(api: Api, owner: User, move: Move, left: timedelta, seconds: str) -> None:
    """curl, got and urllib3 sleep for the whole Retry-After, but an admin may raise the quota in the meantime."""
    end = datetime(2026, 12, 1, tzinfo=UTC)
    move(end - left)
    set_limit(owner, 0)
    refused = api.one(record())
    assert refused.headers["Retry-After"] == seconds
    assert refused.json()["quota"]["resets_at"] == "2026-12-01T00:00:00Z"
    assert refused.headers["RateLimit"] == f'"monthly";r=0;t={int(left.total_seconds())}'
    set_limit(owner, 1)
    assert api.one(record()).status_code == 202
