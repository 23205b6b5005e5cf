"""An admin's change applies to the next request after it was saved, on every web process.

The stack uses the suite's own PostgreSQL and Redis. So the tests can change objects with the same services as the
admin, while two web processes serve. Each round first fills the caches of both processes under the old state.
"""

import itertools
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.fields import Field
from quotas.services import set_limit
from tests.conftest import FIELDS, record
from tests.support.processes.stack import Stack, running, wait_for

# Clients per web process, so that each process gets requests over several connections.
CLIENTS_EACH = 2


def database_url() -> str:
    """Return the URL of the tests' database, on the suite's server."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def environment() -> dict[str, str]:
    """Return a stack's environment: the suite's database and Redis, and no drains."""
    return {
        "DATABASE_URL": database_url(),
        "REDIS_URL": os.environ["REDIS_URL"],
        "CELERY_BROKER_URL": os.environ["CELERY_BROKER_URL"],
        "SECRET_KEY": settings.SECRET_KEY,
        "DISPATCH_SECONDS": "3600",
        "USAGE_FLUSH_SECONDS": "3600",
    }


@pytest.fixture(scope="module")
def pair(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run two web processes."""
    redis.client().flushall()  # an earlier test may have left data of another installation
    with running(tmp_path_factory.mktemp("pair"), "--no-demo", "--web", "2", environment=environment()) as stack:
        wait_for(lambda: len(stack.web_processes()) == 2, "two web processes")
        yield stack


class Everywhere:
    """Clients that reach each of the web processes, over connections that stay open."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.clients: dict[int, list[httpx.Client]] = {}
        self.turn = itertools.cycle(range(len(stack.web_processes())))

    def post(self, token: str, path: str, body: Any) -> list[httpx.Response]:
        """Send the same request over every connection. Each call begins with another process."""
        self.clients = self.clients or self.stack.clients_everywhere(CLIENTS_EACH)
        first = next(self.turn)
        pids = [*self.clients][first:] + [*self.clients][:first]
        headers = {"Authorization": f"Bearer {token}"}
        answers = []
        for pid, at in itertools.product(pids, range(CLIENTS_EACH)):
            answers.append(self.clients[pid][at].post(path, json=body, headers=headers))
        if any("close" in answer.headers.get("connection", "") for answer in answers):
            self.close()  # a client would connect again, perhaps to the other process
        return answers

    def statuses(self, token: str, path: str, body: Any) -> list[int]:
        return [answer.status_code for answer in self.post(token, path, body)]

    def close(self) -> None:
        for client in itertools.chain(*self.clients.values()):
            client.close()
        self.clients = {}


@pytest.fixture
def everywhere(pair: Stack) -> Iterator[Everywhere]:
    clients = Everywhere(pair)
    yield clients
    clients.close()


ALL_OF = 2 * CLIENTS_EACH
ACCEPTED, UNAUTHORIZED, NOT_FOUND, REFUSED, OVER_QUOTA = ([status] * ALL_OF for status in (202, 401, 404, 400, 429))


def test_a_revoked_key_is_refused(everywhere: Everywhere, project: Project, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.pk}"
    for round_number in range(60):
        key = services.create_key(project=project, name=f"key {round_number}")
        token = issue_token(key)
        assert everywhere.statuses(token, path, record()) == ACCEPTED
        services.revoke_key(key)
        assert everywhere.statuses(token, path, record()) == UNAUTHORIZED


def test_a_new_key_works_right_after_it_is_saved(everywhere: Everywhere, project: Project, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.pk}"
    for round_number in range(30):
        key = services.create_key(project=project, name=f"key {round_number}")
        token, token_id, key_id = issue_token(key), key.token_id, key.pk
        key.delete()
        services.save_project(project, changed=())
        assert everywhere.statuses(token, path, record()) == UNAUTHORIZED
        services.save_key(ApiKey(pk=key_id, project=project, name="again", token_id=token_id), changed=())
        assert everywhere.statuses(token, path, record()) == ACCEPTED


def test_an_inactive_project_is_refused(
    everywhere: Everywhere, project: Project, dataset: Dataset, key: ApiKey
) -> None:
    path, token = f"/datasets/{dataset.pk}", issue_token(key)
    for _ in range(50):
        assert everywhere.statuses(token, path, record()) == ACCEPTED
        project.is_active = False
        services.save_project(project, changed=["is_active"])
        assert everywhere.statuses(token, path, record()) == UNAUTHORIZED
        project.is_active = True
        services.save_project(project, changed=["is_active"])
        assert everywhere.statuses(token, path, record()) == ACCEPTED


def test_an_added_field_is_required(everywhere: Everywhere, dataset: Dataset, key: ApiKey) -> None:
    path, token = f"/datasets/{dataset.pk}", issue_token(key)
    fields, body = list(FIELDS), record()
    for number in range(50):
        name = f"added_{number}"
        assert everywhere.statuses(token, path, body) == ACCEPTED
        assert everywhere.statuses(token, path, {**body, name: 1.5}) == REFUSED
        fields.append(Field(name, "number"))
        services.save_dataset(dataset, fields=fields)
        for answer in everywhere.post(token, path, body):
            assert (answer.status_code, answer.json()["error"]) == (400, f"Missing field: {name}")
        body = {**body, name: 1.5}
        assert everywhere.statuses(token, path, body) == ACCEPTED


def test_a_removed_field_is_refused(everywhere: Everywhere, dataset: Dataset, key: ApiKey) -> None:
    path, token = f"/datasets/{dataset.pk}", issue_token(key)
    for fields in (FIELDS[:-1], FIELDS) * 15:
        services.save_dataset(dataset, fields=fields)
        with_it, without_it = (ACCEPTED, REFUSED) if len(fields) == len(FIELDS) else (REFUSED, ACCEPTED)
        assert everywhere.statuses(token, path, record()) == with_it
        assert everywhere.statuses(token, path, record(signup_at=...)) == without_it


def test_an_archived_dataset_is_not_found(everywhere: Everywhere, dataset: Dataset, key: ApiKey) -> None:
    path, token = f"/datasets/{dataset.pk}", issue_token(key)
    for _ in range(50):
        assert everywhere.statuses(token, path, record()) == ACCEPTED
        dataset.is_archived = True
        services.save_dataset(dataset, changed=["is_archived"])
        assert everywhere.statuses(token, path, record()) == NOT_FOUND
        dataset.is_archived = False
        services.save_dataset(dataset, changed=["is_archived"])
        assert everywhere.statuses(token, path, record()) == ACCEPTED


def test_a_new_dataset_is_found(everywhere: Everywhere, project: Project, key: ApiKey) -> None:
    token = issue_token(key)
    last = services.create_dataset(project=project, name="First", fields=FIELDS).pk
    for number in range(20):
        assert everywhere.statuses(token, f"/datasets/{last + 1}", record()) == NOT_FOUND
        last = services.create_dataset(project=project, name=f"Next {number}", fields=FIELDS).pk
        assert everywhere.statuses(token, f"/datasets/{last}", record()) == ACCEPTED


def test_a_new_default_dataset_receives_records(
    everywhere: Everywhere, project: Project, dataset: Dataset, key: ApiKey
) -> None:
    token = issue_token(key)
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    assert everywhere.statuses(token, "/datasets", record()) == NOT_FOUND
    for default in (dataset, other) * 15:
        project.default_dataset = default
        services.save_project(project, changed=["default_dataset"])
        for answer in everywhere.post(token, "/datasets", record()):
            assert answer.headers["Location"].startswith(f"/datasets/{default.pk}/")


def test_a_new_limit_holds(everywhere: Everywhere, owner: User, dataset: Dataset, key: ApiKey) -> None:
    path, token = f"/datasets/{dataset.pk}", issue_token(key)
    for _ in range(20):
        assert everywhere.statuses(token, path, record()) == ACCEPTED
        set_limit(owner, 0)
        assert everywhere.statuses(token, path, record()) == OVER_QUOTA
        set_limit(owner, -1)


# -- while requests come without a pause


@dataclass
class Fire:
    """Threads that send without a pause, and keep the time when each request began and ended, and its answer."""

    send: Callable[[httpx.Client], int]
    clients: list[httpx.Client]
    answers: list[tuple[float, float, int]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Fire":
        self._threads = [threading.Thread(target=self._fire, args=(client,)) for client in self.clients]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _fire(self, client: httpx.Client) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            status = self.send(client)
            self.answers.append((began, time.monotonic(), status))


def test_no_request_is_answered_under_an_old_state(
    pair: Stack, project: Project, dataset: Dataset, key: ApiKey
) -> None:
    """A request that runs while a change is saved may get either answer. All other requests have one right answer."""
    headers = {"Authorization": f"Bearer {issue_token(key)}"}

    def send(client: httpx.Client) -> int:
        return client.post(f"/datasets/{dataset.pk}", json=record(), headers=headers).status_code

    began: list[float] = []
    ended: list[float] = []
    right: list[int] = []
    with Fire(send, [pair.client() for _ in range(3)]) as fire:
        for number in range(150):
            project.is_active = number % 2 == 0
            began.append(time.monotonic())
            services.save_project(project, changed=["is_active"])
            ended.append(time.monotonic())
            right.append(202 if project.is_active else 401)
            seen = len(fire.answers)
            wait_for(lambda seen=seen: len(fire.answers) >= seen + 6, "answers")  # type: ignore[misc]

    judged = {202: 0, 401: 0}
    for start, end, status in fire.answers:
        number = bisect_right(ended, start) - 1
        if number >= 0 and (number + 1 == len(began) or end < began[number + 1]):
            assert status == right[number], f"answered {status}, {start - ended[number]:.6f} s after change {number}"
            judged[status] += 1
    assert min(judged.values()) > 200, judged


def test_a_web_process_confirms_contracts_before_they_expire(tmp_path: Path, dataset: Dataset, key: ApiKey) -> None:
    def several_revisions_read() -> int:
        """Without requests, only the confirmation reads revisions."""
        stats = redis.client().info("commandstats")
        return int(stats.get("cmdstat_mget", {}).get("calls", 0))

    soon = {**environment(), "CATALOG_TTL_SECONDS": "1"}
    with running(tmp_path, "--no-demo", environment=soon) as stack, stack.client(issue_token(key)) as client:
        assert client.post(f"/datasets/{dataset.pk}", json=record()).status_code == 202
        before = several_revisions_read()
        wait_for(lambda: several_revisions_read() >= before + 3, "three checks for due contracts", seconds=10)
