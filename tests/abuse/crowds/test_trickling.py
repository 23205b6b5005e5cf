"""Thousands of clients send their bodies very slowly. Other clients are hardly slower, and new clients can connect."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import pytest

from tests.abuse.conftest import Tenant
from tests.abuse.crowds import honest
from tests.abuse.crowds.tricklers import Tricklers
from tests.abuse.test_slow import is_served
from tests.benchmarks.load import Load, Target
from tests.support.processes.stack import Stack, running, wait_for

pytestmark = pytest.mark.long

COUNT = 1000 * honest.TIMES
# A web process must need less memory than this for each connection.
MAX_BYTES = 40 * 1024
# The connections need time to open. Measure when they have sent this many bytes each on average, one per second.
SETTLED_BYTES = 2 if honest.TIMES == 1 else 20
# The limit of open files of the web process. COUNT clients are too many for it.
FILES = 800 * honest.TIMES
# A crowded process ends no connection that is younger than 2 seconds. A new client waits behind the slow clients that
# came earlier.
MAX_WAIT_SECONDS = 15.0


class Scene(NamedTuple):
    """A service, its honest client, and the beginnings of other clients' requests."""

    client: Tenant
    bodies: list[bytes]
    heads: list[bytes]

    @property
    def web(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in self.client.stack.web_processes()]


def scene(stack: Stack) -> Scene:
    """Make an honest client, and requests of hostile clients, which belong to three projects or have no key."""
    _, dataset, token = stack.make_dataset("honest", {"text": "string"})
    bodies = []
    for project in ("first", "second", "third"):
        _, theirs, key = stack.make_dataset(project, {"text": "string"}, owner=project)
        head = f"POST /datasets/{theirs}/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        bodies.append(f"{head}Authorization: Bearer {key}\r\nContent-Length: 5000\r\n\r\n[".encode())
    bodies.append(f"{head}Content-Length: 5000\r\n\r\n[".encode())
    return Scene(Tenant(stack, dataset, token), bodies, [f"{head}X-Slow: ".encode()])


@contextmanager
def crowd(on: Scene) -> Iterator[Tricklers]:
    """Send bodies slowly over many connections during a block. Then wait until all connections have ended."""
    with Tricklers(on.client.stack.port, on.bodies, COUNT) as tricklers:
        wait_for(lambda: tricklers.open > 0.95 * COUNT, f"{COUNT} connections")
        wait_for(lambda: tricklers.sent > SETTLED_BYTES * COUNT, "bodies that trickle in")
        yield tricklers
    wait_for(lambda: all(web.num_fds() < 300 for web in on.web), "the end of their connections")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("trickling"), "--no-demo", "--web", "2") as stack:
        yield scene(stack)


@pytest.fixture(scope="module")
def few_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("few"), "--no-demo", "--web", "1", files=FILES) as stack:
        yield scene(stack)


@pytest.mark.parametrize("pause_ms", [25.0, None] if honest.TIMES > 1 else [25.0])
def test_honest_clients_keep_their_rate(two_processes: Scene, pause_ms: float | None, tmp_path: Path) -> None:
    client = two_processes.client

    def measure() -> Load:
        target = Target(f"/datasets/{client.dataset}", client.token)
        seconds = 1 if honest.TIMES == 1 else 10
        return honest.send(client.stack.url, target, tmp_path, connections=64, seconds=seconds, pause_ms=pause_ms)

    measure()  # warm up
    alone, crowded = honest.in_turn(measure, lambda: crowd(two_processes))
    print(f"\n64 clients that pause {pause_ms} ms, alone: {alone}; with {COUNT} tricklers: {crowded}")
    assert crowded.per_second > honest.KEPT_SHARE * alone.per_second
    assert crowded.p99_ms < alone.p99_ms / honest.KEPT_SHARE + honest.OTHERS_MS


def test_memory_is_bounded_and_given_back(two_processes: Scene) -> None:
    web = two_processes.web
    before = [each.memory_info().rss for each in web]
    with crowd(two_processes) as tricklers:
        during = [each.memory_info().rss for each in web]
        files = [each.num_fds() for each in web]
        assert set(tricklers.answers) <= {"401"}  # no body of a client with a key is refused
    after = [each.memory_info().rss for each in web]
    print(
        f"\nbytes of each web process before, with {COUNT} tricklers, after: {before}, {during}, {after}; files {files}"
    )
    assert sum(during) - sum(before) < MAX_BYTES * COUNT


@pytest.mark.parametrize("slow", ["bodies", "heads"])
def test_a_new_client_finds_room_among_too_many(few_files: Scene, slow: str) -> None:
    (web,) = few_files.web
    with Tricklers(few_files.client.stack.port, getattr(few_files, slow), COUNT) as tricklers:
        wait_for(lambda: web.num_fds() > 0.7 * FILES, "a crowd")
        took = [_seconds(few_files.client) for _ in range(20)]
        print(
            f"\na new client among {COUNT} slow {slow} is served after {max(took):.1f} s, median {median(took):.2f} s"
        )
        assert median(took) < 2
        assert max(took) < MAX_WAIT_SECONDS
        assert tricklers.unreachable == 0
        assert web.num_fds() < 0.95 * FILES  # the process can still open its own files
    assert web.is_running()


def _seconds(client: Tenant) -> float:
    """Return how long it takes to connect and to be served."""
    began = time.monotonic()
    is_served(client)
    return time.monotonic() - began
