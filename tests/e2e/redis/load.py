"""Clients that send records to one dataset while something happens to Redis."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from tests.support.processes.stack import Stack
from tests.support.sending.connection import ROW

EACH = 50  # records that each sender sends at the end


class Load:
    """Clients that each send one record after the other, and repeat it until it is accepted."""

    def __init__(self, stack: Stack, dataset: int, token: str, senders: int = 4) -> None:
        self.stack = stack
        self.dataset = dataset
        self.token = token
        self.senders = senders
        self.accepted: list[str] = []  # the texts of the records
        self.answers: set[int] = set()
        self._is_over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send records during the block, and a few more after it."""
        with ThreadPoolExecutor(self.senders) as pool:
            sent = [pool.submit(self._send, sender) for sender in range(self.senders)]
            try:
                yield
            finally:
                self._is_over.set()
            for each in sent:
                each.result()

    def _send(self, sender: int) -> None:
        number = left = 0
        with self.stack.client(self.token) as client:
            while left < EACH:
                number += 1
                left += self._is_over.is_set()
                self._send_one(client, f"{sender}-{number}")

    def _send_one(self, client: httpx.Client, text: str) -> None:
        while True:
            body = {**ROW, "text": text}
            answer = client.post(f"/datasets/{self.dataset}", json=body, headers={"Idempotency-Key": text})
            self.answers.add(answer.status_code)
            if answer.status_code == 202:
                self.accepted.append(text)
                return
            assert answer.json()["code"] == "queue_unavailable", answer.text
            assert "Retry-After" in answer.headers
            time.sleep(0.1)
