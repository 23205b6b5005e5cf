"""Clients send more than a monthly limit to two web processes. Exactly the accepted records are counted."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from tests.support.processes.stack import Stack, wait_for
from tests.support.sending.at_once import at_once

# Batches of these sizes leave 5 records of the limit.
SIZES = (6, 12, 30)
LIMIT = 1013
CLIENTS_EACH = 6
REQUESTS = 20  # how many different requests each client sends


@dataclass(frozen=True, slots=True)
class Request:
    """Records with names, and the request's Idempotency-Key, if it has one."""

    names: tuple[str, ...]
    key: str | None = None

    def send(self, client: httpx.Client, path: str) -> httpx.Response:
        records: list[dict[str, Any]] = [
            {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "name": name} for name in self.names
        ]
        headers = {} if self.key is None else {"Idempotency-Key": self.key}
        if len(records) == 1:
            return client.post(path, json=records[0], headers=headers)
        return client.post(f"{path}/batch", json=records, headers=headers)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request, the web process that answered, and the answer."""

    request: Request
    pid: int
    answer: httpx.Response

    @property
    def is_charged(self) -> bool:
        return self.answer.status_code == 202 and "Idempotent-Replayed" not in self.answer.headers


def batches(client: int) -> Iterator[Request]:
    """Yield requests without an Idempotency-Key, with an own key (twice), and with a key of all clients (twice)."""
    chance = random.Random(client)
    for number in range(REQUESTS):
        sender, size = f"{client}", chance.choice(SIZES)
        if number % 5 == 4:
            sender, size = "all", SIZES[number % 3]
        names = tuple(f"{sender}/{number}/{place}" for place in range(size))
        yield from [Request(names)] if number % 5 < 3 else [Request(names, key=f"{sender}/{number}")] * 2


def single_records(client: int) -> Iterator[Request]:
    return (Request((f"{client}/alone/{number}",)) for number in range(3))


class Clients:
    """Clients of each of a stack's web processes, which all send at the same time."""

    def __init__(self, stack: Stack, dataset: int, token: str) -> None:
        everywhere = stack.clients_everywhere(CLIENTS_EACH, token)
        self.clients = [(pid, client) for pid, group in everywhere.items() for client in group]
        self.path = f"/datasets/{dataset}"

    def spend(self, requests_of: Callable[[int], Iterator[Request]]) -> list[Answered]:
        """Return the answers to each client's requests. A client sends them one after the other."""
        calls = [partial(self._spend, *client, requests_of(number)) for number, client in enumerate(self.clients)]
        return [answered for each in at_once(calls) for answered in each]

    def _spend(self, pid: int, client: httpx.Client, requests: Iterator[Request]) -> list[Answered]:
        answered = [Answered(request, pid, request.send(client, self.path)) for request in requests]
        connections = {each.answer.extensions["network_stream"] for each in answered}
        assert len(connections) == 1, "it was one connection, and so one process"
        return answered


def charged(answered: list[Answered]) -> list[str]:
    """Return the names of the records that were accepted and not replayed."""
    return [name for each in answered if each.is_charged for name in each.request.names]


def test_two_processes_accept_exactly_the_limit(stack: Stack) -> None:
    wait_for(lambda: len(stack.web_processes()) == 2, "two web processes")
    project, dataset, token = stack.make_dataset("limited", {"name": "string"}, owner="grace")
    stack.manage("quota", "grace", "--limit", str(LIMIT))
    clients = Clients(stack, dataset, token)

    first = clients.spend(batches)
    assert len(charged(first)) == LIMIT - LIMIT % 6, "what is left is less than any batch"
    second = clients.spend(single_records)
    names = charged(first) + charged(second)
    assert len(names) == LIMIT

    answered = first + second
    refused = [each for each in answered if each.answer.status_code == 429]
    assert {each.answer.status_code for each in answered} <= {202, 409, 429}
    assert sum("Idempotent-Replayed" in each.answer.headers for each in answered) > len(clients.clients)
    for these in ([each for each in first if each.is_charged], [each for each in first if each in refused]):
        assert len({each.pid for each in these}) == 2, "both processes said so"
    for each in refused:
        quota = each.answer.json()["quota"]
        assert (quota["limit"], quota["requested"]) == (LIMIT, len(each.request.names))
        assert quota["remaining"] == LIMIT - quota["used"] < quota["requested"]

    assert stack.manage("quota", "grace").startswith(f"grace: {LIMIT} of {LIMIT} records in ")
    assert stack.manage("shell", "-v0", "-c", _USAGE).split() == [f"{LIMIT}"] * 2
    stack.wait_until_drained(dataset, LIMIT)
    stored = stack.query(project, dataset, "SELECT name FROM records")
    assert sorted(name for (name,) in stored) == sorted(names)


# The usage in Redis, and in the database after a flush.
_USAGE = """
from config.common import redis
from quotas import counters, services
from quotas.models import MonthlyUsage
services.flush()
usage = MonthlyUsage.objects.get(user__username="grace")
print(usage.used, int(redis.client().get(counters.total_key(usage.user_id, usage.period))))
"""
