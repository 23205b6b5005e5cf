"""The whole service behind Sentinel, with its broker. The primary is killed under load."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.processes.stack import Stack, running, wait_for
from tests.support.sending.connection import ROW
from tests.support.servers.sentinels import trio

SENDERS = 4
EACH = 50  # records that each sender sends after the failover


class Load:
    """Clients that each send one record after the other, and repeat it until it is accepted."""

    def __init__(self, stack: Stack, dataset: int, token: str) -> None:
        self.stack = stack
        self.path = f"/datasets/{dataset}"
        self.token = token
        self.accepted: list[str] = []  # the texts of the records
        self.answers: set[int] = set()
        self.failed_over = threading.Event()

    def send(self, sender: int) -> None:
        number = left = 0
        with self.stack.client(self.token) as client:
            while left < EACH:
                number += 1
                left += self.failed_over.is_set()
                self._send_one(client, f"{sender}-{number}")

    def _send_one(self, client: httpx.Client, text: str) -> None:
        while True:
            answer = client.post(self.path, json={**ROW, "text": text}, headers={"Idempotency-Key": text})
            self.answers.add(answer.status_code)
            if answer.status_code == 202:
                self.accepted.append(text)
                return
            assert answer.json()["code"] == "queue_unavailable", answer.text
            assert "Retry-After" in answer.headers
            time.sleep(0.1)


def status(stack: Stack, dataset: int, token: str, text: str) -> int:
    with stack.client(token) as client:
        return client.post(f"/datasets/{dataset}", json={**ROW, "text": text}).status_code


def test_failover_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with trio(tmp_path / "servers") as servers:
        environment = {"REDIS_URL": servers.url(), "REDIS_WAIT_REPLICAS": "1"}
        with running(tmp_path / "data", "--no-demo", "--web", "1", environment=environment) as stack:
            project, dataset, token = stack.make_dataset("watched", {"text": "string"})
            key = stack.operator.do("new_key", project=project)
            assert status(stack, dataset, key["token"], "first") == 202
            stack.operator.do("revoke", key=key["key"])
            load = Load(stack, dataset, token)
            with ThreadPoolExecutor(SENDERS) as pool:
                sent = [pool.submit(load.send, sender) for sender in range(SENDERS)]
                wait_for(lambda: len(load.accepted) > 200, "records before the failover")
                old = servers.fail_over()
                old.start()  # the sentinels make it a replica, for which the new primary waits
                load.failed_over.set()
                for each in sent:
                    each.result()
            assert load.answers == {202, 503}
            assert status(stack, dataset, key["token"], "late") == 401
            stack.wait_until_drained(dataset, len(load.accepted) + 1)
            rows = [text for (text,) in stack.query(project, dataset, "SELECT text FROM records")]
            assert sorted(rows) == sorted(["first", *load.accepted])
            wait_for(lambda: httpx.get(f"{stack.url}/readyz").status_code == 200, "readiness")
