"""The admin has a share of each web process. A flood of its pages takes little from clients that send records."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from config.web.hashers import BoundedPasswordHasher, PasswordChecksBusy
from config.web.share import Budget
from tests.abuse.conftest import Tenant
from tests.support.processes.stack import Stack, wait_for
from tests.support.sending.at_once import at_once
from tests.support.sending.connection import TEXT

CLIENTS = 40
SECONDS = 4.0


@contextmanager
def flood(service: Stack, *, with_token: bool) -> Iterator[list[int]]:
    """Flood the login and pages over many connections, without an account. Yield the answers' statuses."""
    stop, statuses = threading.Event(), list[int]()

    def run() -> None:
        with service.client() as client:
            page = client.get("/admin/login/")
            found = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)
            form = {"username": "ada", "password": "x" * 50, "csrfmiddlewaretoken": found[1] if found else "none"}
            while not stop.is_set():
                try:
                    answer = client.post("/admin/login/", data=form if with_token else {})
                    statuses.append(answer.status_code)
                except httpx.TransportError:
                    continue
                stop.wait(0.05)  # this client uses the same processors as the service

    threads = [threading.Thread(target=run, daemon=True) for _ in range(CLIENTS)]
    for each in threads:
        each.start()
    try:
        yield statuses
    finally:
        stop.set()
        for each in threads:
            each.join()


def taken_by(tenant: Tenant, seconds: float) -> int:
    """Return how many records one connection sends in `seconds`. It waits for each answer before the next record."""
    count, end = 0, time.monotonic() + seconds
    with tenant.connect() as connection:
        while time.monotonic() < end:
            connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
            connection.send(TEXT)
            assert connection.answer().status == 202
            count += 1
    return count


@pytest.mark.parametrize("with_token", [True, False])
def test_a_login_flood_leaves_others_most_of_the_rate(service: Stack, neighbor: Tenant, with_token: bool) -> None:
    taken_by(neighbor, 1.0)
    before = taken_by(neighbor, SECONDS)
    with flood(service, with_token=with_token) as statuses:
        # Wait until the clients without an account have used up their burst.
        wait_for(lambda: statuses.count(503) > 2 * CLIENTS, "refused logins")
        during = taken_by(neighbor, SECONDS)
    after = taken_by(neighbor, SECONDS)
    # On an idle machine, the neighbor keeps more than half of its rate. Without the limit, it kept a seventieth. Other
    # tests run at the same time, so demand only an eighth.
    assert during > min(before, after) / 8, (before, during, after, len(statuses))


def test_a_refused_login_says_when_to_try_again(service: Stack) -> None:
    with flood(service, with_token=True) as statuses, service.client() as client:
        deadline = time.monotonic() + 30
        while 503 not in statuses:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answer = client.get("/admin/login/")
        while answer.status_code != 503:
            assert time.monotonic() < deadline
            answer = client.get("/admin/login/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Retry-After"] == "5"
    assert "Wait 5 seconds, then try again." in answer.text


def test_a_spent_budget_grows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    budget = Budget(share=0.5, burst=2.0)
    assert budget.spend(1.5)
    assert not budget.spend(1.5)  # now one second in debt
    now[0] += 1.9
    assert not budget.spend(0)
    now[0] += 0.2
    assert budget.spend(0)
    now[0] += 1000
    assert budget.spend(1.9)
    assert not budget.spend(0.2)


def test_at_most_two_passwords_are_checked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.web.hashers._WAIT_SECONDS", 0.05)
    hasher, running, most = BoundedPasswordHasher(), [0], [0]
    lock = threading.Lock()

    def slow(*_: object) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.5)
        with lock:
            running[0] -= 1
        return "hash"

    monkeypatch.setattr("django.contrib.auth.hashers.PBKDF2PasswordHasher.encode", slow)

    def check() -> str:
        try:
            return hasher.encode("password", "salt")
        except PasswordChecksBusy:
            return "busy"

    assert sorted(at_once([check] * 6)) == ["busy"] * 4 + ["hash"] * 2
    assert most == [2]
