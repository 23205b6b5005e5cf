"""The hot path is one round trip: with a cached contract, a request sends one command to Redis and no query."""

import json
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset
from quotas.services import set_limit
from tests.conftest import Api, record
from tests.support.servers.outages import commands_sent
from tests.support.servers.queries import queries_sent

Send = Callable[[Api], httpx.Response]

LINES = "\n".join([json.dumps(record())] * 1000)
ACCEPTED: dict[str, Send] = {
    "one record": lambda api: api.one(record()),
    "one record that is read twice": lambda api: api.one(record(country="9-12 10:30")),
    "a batch": lambda api: api.batch([record()] * 1000),
    "lines": lambda api: api.batch(LINES, **{"Content-Type": "application/x-ndjson"}),
    "a new idempotency key": lambda api: api.one(record(), Idempotency_Key="new"),
    "a known idempotency key": lambda api: api.one(record(), Idempotency_Key="known"),
}
REFUSED: dict[str, tuple[int, Send]] = {
    "a record that the schema does not allow": (400, lambda api: api.one(record(amount="x"))),
    "a dataset that is not there": (404, lambda api: api.post("/datasets/999999", record())),
    "more than the quota": (429, lambda api: api.batch([record()] * 9000)),
}


def cost(api: Api, send: Send) -> tuple[httpx.Response, list[str], int]:
    """Return the answer to a request, the Redis commands that it sent, and the number of SQL queries."""
    with commands_sent() as commands, queries_sent() as queries:
        response = send(api)
    return response, commands, len(queries)


@pytest.fixture
def warm(api: Api, dataset: Dataset) -> Api:
    """A client whose contract is cached, whose owner has a limit, and that has been refused before."""
    set_limit(dataset.project.owner, 8000)
    for send in (*ACCEPTED.values(), *(send for _, send in REFUSED.values())):
        send(api)
    redis.client().delete(f"queue:idempotency:{dataset.pk}:new")
    return api


def test_an_accepted_request_is_one_command_and_no_query(warm: Api) -> None:
    for name, send in ACCEPTED.items():
        response, commands, queries = cost(warm, send)
        assert response.status_code == 202
        assert commands == ["EVALSHA"], name
        assert queries == 0, name


def test_a_request_without_a_limit_is_one_command_and_no_query(warm: Api, dataset: Dataset) -> None:
    set_limit(dataset.project.owner, -1)
    response, commands, queries = cost(warm, ACCEPTED["one record"])
    assert (response.status_code, commands, queries) == (202, ["EVALSHA"], 0)


def test_a_browser_key_costs_no_more(warm: Api, dataset: Dataset) -> None:
    page = "https://shop.example.com"
    key = services.create_key(project=dataset.project, name="shop", origins=[page])
    shop = Api(issue_token(key), dataset)
    assert shop.one(record(), Origin=page).status_code == 202
    for origin, status, expected in ((page, 202, ["EVALSHA"]), ("https://evil.example", 403, ["GET", "EVALSHA"])):
        response, commands, queries = cost(shop, partial(Api.one, body=record(), Origin=origin))
        assert (response.status_code, commands, queries) == (status, expected, 0)


def test_a_refused_request_asks_redis_and_no_database(warm: Api) -> None:
    """One command decides, or confirms that the schema is still in force. Another command counts the refusal."""
    for name, (status, send) in REFUSED.items():
        response, commands, queries = cost(warm, send)
        assert response.status_code == status
        assert len(commands) == 2, (name, commands)
        assert commands[0] == ("EVALSHA" if status == 429 else "GET"), name
        assert queries == 0, name


def test_a_forged_key_asks_no_database(warm: Api, dataset: Dataset) -> None:
    for token in ("nonsense", "pat_abc", None):
        response, commands, queries = cost(Api(token, dataset), ACCEPTED["one record"])
        assert response.status_code in (401, 403)
        assert len(commands) == 1, "the refusal is counted"
        assert queries == 0
