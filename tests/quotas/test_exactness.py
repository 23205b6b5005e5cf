"""With 64 concurrent clients, usage equals the accepted records and never exceeds the limit."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from threading import Event

import httpx
import pytest
from django.contrib.auth.models import User

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from quotas.counters import delta_key
from quotas.services import flush, set_limit
from tests.conftest import FIELDS, Api, record
from tests.support.books import Books, balanced, books, this_month
from tests.support.entries import counted, counters
from tests.support.sending.at_once import Threads, at_once

CLIENTS = 64
# A request, and the number of records that it is charged for if it is accepted for the first time.
Request = tuple[Callable[[Api], httpx.Response], int]


def single() -> Request:
    return (lambda api: api.one(record())), 1


def batch(size: int, **headers: str) -> Request:
    return (lambda api: api.batch([record()] * size, **headers)), size


def lines(size: int) -> Request:
    body = "\n".join([json.dumps(record())] * size)
    return (lambda api: api.batch(body, content_type="application/x-ndjson")), size


def invalid(size: int) -> Request:
    return (lambda api: api.batch([record()] * size + [record(amount="1")])), size + 1


def anything(client: int) -> list[Request]:
    """Return a client's requests in random order: valid ones of each form, repeated ones, and two that are refused."""
    luck = random.Random(client)
    requests = [
        *(single() for _ in range(4)),
        *(batch(luck.randint(1, 9)) for _ in range(4)),
        *(lines(luck.randint(1, 9)) for _ in range(2)),
        *(batch(3, Idempotency_Key=f"own-{client}") for _ in range(3)),
        *(batch(2, Idempotency_Key=f"shared-{number}") for number in range(2)),
        invalid(5),
        batch(1001),
    ]
    luck.shuffle(requests)
    return requests


def spend(api: Api, requests: Iterable[Request]) -> list[tuple[httpx.Response, int]]:
    """Send requests one after the other. Return each answer with the number of records that were charged for it."""
    mine = Api(api.token, api.dataset)
    answers = []
    for send, count in requests:
        answer = send(mine)
        first = answer.status_code == 202 and "Idempotent-Replayed" not in answer.headers
        answers.append((answer, count if first else 0))
    return answers


def spend_at_once(api: Api, requests: Callable[[int], list[Request]]) -> list[tuple[httpx.Response, int]]:
    """Do the same as `spend` with 64 concurrent clients. `requests` returns the requests of a client by its number."""
    answers = at_once([partial(spend, api, requests(client)) for client in range(CLIENTS)])
    return [answer for each in answers for answer in each]


def statuses(answers: list[tuple[httpx.Response, int]]) -> Counter[int]:
    return Counter(answer.status_code for answer, _ in answers)


def remaining(answer: httpx.Response) -> int:
    return int(answer.headers["RateLimit"].split(";")[1].removeprefix("r="))


def assert_exact(dataset: Dataset, charged: int, *, seeded: int = 0) -> None:
    """Check that charges, queued records and, after a flush, the database's usage are equal."""
    owner = dataset.project.owner
    assert books(owner) == Books(seeded + charged, charged, True, seeded or None)
    assert counters(dataset)["accepted"] == counted(dataset)["queued"] == charged
    flush()
    assert books(owner) == balanced(seeded + charged)


def test_exactly_the_limit_of_single_records_is_accepted(api: Api, dataset: Dataset, owner: User) -> None:
    set_limit(owner, 300)
    answers = spend_at_once(api, lambda _: [single()] * 8)
    assert statuses(answers) == {202: 300, 429: CLIENTS * 8 - 300}
    # Each answer tells the remaining quota at its time, so no two are equal.
    assert sorted(remaining(answer) for answer, charged in answers if charged) == list(range(300))
    assert all(answer.json()["quota"]["used"] == 300 for answer, _ in answers if answer.status_code == 429)
    assert_exact(dataset, 300)


@pytest.mark.parametrize(("size", "limit"), [(7, 1000), (100, 1600), (100, 99)])
def test_batches_that_fit_the_limit_are_accepted(
    api: Api, dataset: Dataset, owner: User, size: int, limit: int
) -> None:
    set_limit(owner, limit)
    answers = spend_at_once(api, lambda _: [batch(size)] * 3)
    fit = min(limit // size, CLIENTS * 3)
    assert statuses(answers) == Counter({429: CLIENTS * 3 - fit} | ({202: fit} if fit else {}))
    if fit:
        assert_exact(dataset, fit * size)


def test_usage_equals_accepted_records_for_any_requests(api: Api, dataset: Dataset, owner: User) -> None:
    set_limit(owner, 1000)
    answers = spend_at_once(api, anything)
    charged = sum(count for _, count in answers)
    seen = statuses(answers)
    assert set(seen) <= {202, 400, 409, 429}
    assert seen[400] == CLIENTS
    assert seen[429] > CLIENTS, "the requests beyond the limit, and others"
    assert sum("Idempotent-Replayed" in answer.headers for answer, _ in answers) > CLIENTS
    assert 1000 - 9 < charged <= 1000, "the rest is smaller than a refused batch"
    assert all(0 <= remaining(answer) <= 1000 for answer, _ in answers if answer.status_code in (202, 429))
    assert_exact(dataset, charged)


def test_all_projects_of_an_owner_share_one_limit(api: Api, dataset: Dataset, key: ApiKey, owner: User) -> None:
    set_limit(owner, 200)
    second = services.create_project(slug="second", owner=owner)
    others = [
        Api(api.token, services.create_dataset(project=dataset.project, name="Other", fields=FIELDS)),
        Api(
            issue_token(services.create_key(project=second, name="tests")),
            services.create_dataset(project=second, name="Third", fields=FIELDS),
        ),
    ]
    clients = [api, *others] * 21
    answers = at_once([partial(spend, client, [batch(3), single()] * 2) for client in clients])
    charged = sum(count for each in answers for _, count in each)
    assert charged == 200
    assert books(owner) == Books(200, 200, True, None)


def test_without_a_limit_all_records_are_counted(api: Api, dataset: Dataset) -> None:
    answers = spend_at_once(api, lambda client: [single(), batch(client + 1)])
    assert statuses(answers) == {202: 2 * CLIENTS}
    assert all("RateLimit" not in answer.headers and "RateLimit-Policy" not in answer.headers for answer, _ in answers)
    assert_exact(dataset, CLIENTS + CLIENTS * (CLIENTS + 1) // 2)


def test_concurrent_clients_seed_a_wiped_redis_once(api: Api, dataset: Dataset, owner: User) -> None:
    """64 concurrent clients find no counters, seed them, and are charged exactly."""
    set_limit(owner, 500)
    assert api.batch([record()] * 123).status_code == 202
    flush()
    redis.client().flushall()
    answers = spend_at_once(api, lambda _: [batch(2), single(), batch(5)] * 2)
    assert set(statuses(answers)) == {202, 429}
    charged = sum(count for _, count in answers)
    assert charged == 377
    assert_exact(dataset, charged, seeded=123)


def test_repeated_wipes_lose_only_unflushed_usage(api: Api, dataset: Dataset, owner: User) -> None:
    set_limit(owner, 100_000)
    over = Event()

    def send() -> int:
        charged = 0
        while not over.is_set():
            charged += sum(count for _, count in spend(api, [batch(3), single()]))
        return charged

    with Threads(8) as pool:
        senders = [pool.submit(send) for _ in range(8)]
        forgotten = 0
        try:
            for _ in range(10):
                flush()
                with redis.client().pipeline(transaction=True) as step:
                    step.get(delta_key(owner.pk, this_month()))
                    step.flushall()
                    forgotten += int(step.execute()[0] or 0)
        finally:
            over.set()
        charged = sum(sender.result(60) for sender in senders)
    flush()
    assert books(owner) == balanced(charged - forgotten)


def test_limits_hold_while_an_admin_changes_them(api: Api, dataset: Dataset, owner: User) -> None:
    """Usage never exceeds the highest limit, and the last limit decides what is accepted afterwards."""
    set_limit(owner, 50)

    def change() -> None:
        for limit in (100, 70, 150, 20, 200, 60):
            set_limit(owner, limit)

    with Threads(1) as pool:
        changes = pool.submit(change)
        answers = spend_at_once(api, lambda _: [single(), batch(3)] * 4)
        changes.result(60)
    charged = sum(count for _, count in answers)
    assert charged <= 200
    assert_exact(dataset, charged)
    assert api.one(record()).status_code == (429 if charged >= 60 else 202)
