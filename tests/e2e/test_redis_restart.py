"""Redis is killed or stopped while clients send. Accepted records are stored once, and all processes resume."""

import itertools
import math
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.support.processes.stack import PATIENCE_SECONDS, Stack, running, wait_for

FIELDS = {"number": "number", "sender": "string"}
# No request hangs: this is the time limit of an admission, plus what a busy machine adds.
MAX_ANSWER_SECONDS = 8.0
NOTHING_HAPPENED = "Nothing was queued or charged."


@dataclass
class Client(threading.Thread):
    """Sends numbered records until it is told to stop, like a client that must neither lose nor double any.

    With `retries`, each request has an Idempotency-Key and is sent again until it is accepted. Without, it has no key,
    is sent once, and what is refused is given up.
    """

    url: str
    token: str
    numbers: Iterator[int]
    batch: int
    retries: bool
    accepted: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)  # the answer said that nothing was queued
    unknown: list[int] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name=f"batches of {self.batch}, {'retries' if self.retries else 'once'}")
        self.over = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        with httpx.Client(timeout=60, trust_env=False, headers={"Authorization": f"Bearer {self.token}"}) as http:
            while not self.over.is_set() and not self.failures:
                self._send(http, [next(self.numbers) for _ in range(self.batch)])

    def _send(self, http: httpx.Client, numbers: list[int]) -> None:
        rows = [self._record(number) for number in numbers]
        url, body = (self.url, rows[0]) if self.batch == 1 else (f"{self.url}/batch", rows)
        headers = {"Idempotency-Key": uuid.uuid4().hex} if self.retries else {}
        while not self.failures:
            answer = self._post(http, url, body, headers)
            if answer is None:
                return
            if answer.status_code == 202:
                self.accepted += numbers
                return
            if not self.retries:
                certain = answer.json()["detail"] == NOTHING_HAPPENED
                (self.refused if certain else self.unknown).extend(numbers)
                time.sleep(0.05)
                return
            time.sleep(random.uniform(0.05, 0.3))  # sooner than Retry-After asks

    def _post(self, http: httpx.Client, url: str, body: Any, headers: dict[str, str]) -> httpx.Response | None:
        began = time.monotonic()
        try:
            answer = http.post(url, json=body, headers=headers)
        except httpx.HTTPError as failure:
            self.failures.append(f"{failure!r} after {time.monotonic() - began:.1f} s")
            return None
        self.longest = max(self.longest, time.monotonic() - began)
        self.answers[answer.status_code] += 1
        if answer.status_code not in (202, 503, 409):
            self.failures.append(f"{answer.status_code} {answer.text}")
        elif answer.status_code != 202 and int(answer.headers.get("Retry-After", "0")) < 1:
            self.failures.append(f"{answer.status_code} without Retry-After")
        return answer

    def _record(self, number: int) -> dict[str, Any]:
        moment = f"2026-06-10T10:{number // 60 % 60:02}:{number % 60:02}Z"
        return {"timestamp": moment, "context": {"thread": self.name}, "number": number, "sender": self.name}


class Load:
    """Several clients, which send single records and batches at the same time."""

    def __init__(self, stack: Stack, dataset_id: int, token: str) -> None:
        numbers = itertools.count()  # its next() is atomic
        url = f"{stack.url}/datasets/{dataset_id}"
        kinds = [(1, True)] * 4 + [(70, True)] * 2 + [(1, False)] * 2 + [(40, False)]
        self.clients = [Client(url, token, numbers, batch, retries) for batch, retries in kinds]

    def __enter__(self) -> "Load":
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.over.set()
        for client in self.clients:
            client.join(PATIENCE_SECONDS)
        assert not [client.name for client in self.clients if client.is_alive()], "a request hangs"

    def wait_for_acceptances(self, more: int) -> None:
        """Wait until this many more requests of each client were accepted."""
        before = [client.answers[202] for client in self.clients]

        def enough() -> bool:
            self.check()
            now = [client.answers[202] for client in self.clients]
            return all(a - b >= more for a, b in zip(now, before, strict=True))

        wait_for(enough, f"{more} acceptances each")

    def check(self) -> None:
        assert [f"{client.name}: {failure}" for client in self.clients for failure in client.failures] == []

    def all(self, pick: Callable[[Client], list[int]]) -> list[int]:
        return [number for client in self.clients for number in pick(client)]

    def answers(self) -> Counter[int]:
        return sum((client.answers for client in self.clients), Counter())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack"), "--no-demo", "--web", "2") as stack:
        yield stack


def verify(stack: Stack, load: Load, project_id: int, dataset_id: int) -> None:
    """Compare the table with the answers that the clients got."""
    load.check()
    assert max(client.longest for client in load.clients) < MAX_ANSWER_SECONDS
    accepted, refused, unknown = (
        load.all(pick) for pick in (lambda c: c.accepted, lambda c: c.refused, lambda c: c.unknown)
    )

    stack.wait_for_rows(dataset_id, len(accepted))

    def all_stored() -> dict[str, Any] | None:
        balance = stack.ledger(dataset_id)
        assert balance["adds_up"], balance
        return balance if balance["queued"] == 0 else None

    balance = wait_for(all_stored, "an empty queue")
    stored = [int(number) for (number,) in stack.query(project_id, dataset_id, "SELECT number FROM records")]
    doubled = [number for number, times in Counter(stored).items() if times > 1]
    assert doubled == []
    assert sorted(set(accepted) - set(stored)) == [], "accepted and not stored"
    assert sorted(set(refused) & set(stored)) == [], "refused, and stored all the same"
    assert set(stored) <= {*accepted, *unknown}
    assert (balance["accepted"], balance["stored"], balance["quarantined"]) == (len(stored), len(stored), 0)


def test_a_killed_redis_neither_loses_nor_doubles_records(stack: Stack) -> None:
    project_id, dataset_id, token = stack.make_dataset("killed", FIELDS, owner="margaret")
    with Load(stack, dataset_id, token) as load:
        for _ in range(3):
            load.wait_for_acceptances(20)
            killed = stack.program("redis")
            killed.kill()
            wait_for(lambda killed=killed: stack.program("redis").pid != killed.pid, "another Redis")  # type: ignore[misc]
        load.wait_for_acceptances(20)
    verify(stack, load, project_id, dataset_id)
    used = stack.ledger(dataset_id)["accepted"]
    assert stack.do("quota", "margaret").startswith(f"margaret: {used} of ")


def test_a_stopped_redis_neither_loses_nor_doubles_records(stack: Stack) -> None:
    """Redis stops for longer than an admission may take: it must not carry out what it reads too late."""
    project_id, dataset_id, token = stack.make_dataset("still", FIELDS, owner="katherine")
    with Load(stack, dataset_id, token) as load:
        load.wait_for_acceptances(20)
        redis = stack.program("redis")
        redis.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: load.answers()[503] > 20, "refusals")
            time.sleep(6)  # the length of the stop is the condition of the test
        finally:
            redis.send_signal(signal.SIGCONT)
        load.wait_for_acceptances(20)
    verify(stack, load, project_id, dataset_id)
    used = stack.ledger(dataset_id)["accepted"]
    assert stack.do("quota", "katherine").startswith(f"katherine: {used} of ")


def test_workers_resume_without_a_restart(stack: Stack) -> None:
    project_id, dataset_id, token = stack.make_dataset("resumed", FIELDS, owner="dorothy")
    workers = {name: stack.program(name).pid for name in ("worker", "upkeep", "beat")}
    for number in range(3):
        killed = stack.program("redis")
        killed.kill()
        wait_for(lambda killed=killed: stack.program("redis").pid != killed.pid, "another Redis")  # type: ignore[misc]
        body = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "number": number, "sender": "it"}
        with stack.client(token) as client:
            wait_for(lambda: client.post(f"/datasets/{dataset_id}", json=body).status_code == 202, "acceptance")  # noqa: B023
        stack.wait_until_drained(dataset_id, number + 1)
    assert {name: stack.program(name).pid for name in workers} == workers
    with stack.client() as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, "readiness")
    assert math.isclose(stack.query(project_id, dataset_id, "SELECT sum(number) FROM records")[0][0], 3.0)
