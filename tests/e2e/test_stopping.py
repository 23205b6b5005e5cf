"""The web server stops and reloads while clients send, and while some bodies do not continue."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from django.conf import settings

from tests.support.processes.stack import Stack, running, wait_for
from tests.support.sending.connection import LINE, TEXT, Connection

# Seconds for the machine and the other processes, in addition to the web processes' grace time.
SLACK_SECONDS = 8


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, int, str]]:
    """Run a stack with two web processes, and make a dataset and a key."""
    with running(tmp_path_factory.mktemp("stopping"), "--no-demo", "--web", "2") as stack:
        _, dataset, token = stack.make_dataset("tenant", {"text": "string"})
        yield stack, dataset, token


@contextmanager
def stalled(stack: Stack, dataset: int, token: str) -> Iterator[None]:
    """Send five bodies that stop after one byte, and five that stop between two lines of NDJSON."""
    with ExitStack() as connections:
        for _ in range(5):
            each = connections.enter_context(Connection(stack.port, token))
            each.post(f"/datasets/{dataset}", "Content-Length: 100")
            each.send(b"{")
            each = connections.enter_context(Connection(stack.port, token))
            lines = ("Content-Type: application/x-ndjson", "Transfer-Encoding: chunked")
            each.head(f"POST /datasets/{dataset}/batch", *lines)
            each.chunk(LINE)
        yield


class Senders:
    """Four clients that send records until they are told to stop, each record on a new connection."""

    def __init__(self, stack: Stack, dataset: int, token: str) -> None:
        self.seen = Counter[str]()
        self._stack, self._dataset, self._token = stack, dataset, token
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(4)]

    def _send(self) -> None:
        while not self._is_over.is_set():
            try:
                connection = Connection(self._stack.port, self._token)
            except ConnectionRefusedError:
                self.seen["refused"] += 1
                self._is_over.wait(0.05)
                continue
            with connection:
                try:
                    connection.post(f"/datasets/{self._dataset}", "Connection: close", f"Content-Length: {len(TEXT)}")
                    connection.send(TEXT)
                    self.seen[str(connection.answer().status)] += 1
                except OSError as lost:
                    self.seen[type(lost).__name__] += 1

    def __enter__(self) -> "Senders":
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.seen["202"] > 20, "some answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def test_a_reload_refuses_no_connection_despite_stalled_bodies(served: tuple[Stack, int, str]) -> None:
    stack, dataset, token = served
    before = stack.web_processes()
    with stalled(stack, dataset, token), Senders(stack, dataset, token) as senders:
        stack.program("web").send_signal(signal.SIGHUP)
        wait_for(
            lambda: len(stack.web_processes()) == 2 and not before & stack.web_processes(),
            "other web processes",
            seconds=2 * (settings.WEB_STOP_SECONDS + SLACK_SECONDS),
        )
    # The server closes connections from which it has not read yet. It has not accepted their requests.
    assert senders.seen["refused"] == 0
    assert senders.seen.total() - senders.seen["202"] <= 8, senders.seen
    stack.wait_until_drained(dataset, senders.seen["202"])


def test_a_stop_answers_accepted_requests_in_its_grace_time(served: tuple[Stack, int, str]) -> None:
    stack, dataset, token = served
    accepted = stack.ledger(dataset)["accepted"]
    with stalled(stack, dataset, token), Senders(stack, dataset, token) as senders:
        began = time.monotonic()
        assert stack.stop() == 0
        took = time.monotonic() - began
        wait_for(lambda: senders.seen["refused"] > 0, "a refused connection")
    assert took < settings.WEB_STOP_SECONDS + SLACK_SECONDS
    stack.start()
    stack.wait_until_drained(dataset, accepted + senders.seen["202"])
