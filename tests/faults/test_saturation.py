"""More load than the service can hold: it refuses at once, keeps what it has, and stores it later."""

import json
import resource
import secrets
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest
from redis import Redis

from config.common.env import embedded_redis_socket
from tests.faults.actors.operators import Operator
from tests.support.processes.roles import families
from tests.support.processes.stack import PATIENCE_SECONDS, Stack, running, wait_for

MEBIBYTE = 1024 * 1024
BACKLOG_LIMIT_BYTES = 12 * MEBIBYTE
REFUSALS = 200
IDLE_CONNECTIONS = 10_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    limits = {
        "BACKLOG_LIMIT_BYTES": str(BACKLOG_LIMIT_BYTES),
        "BACKLOG_SHARE_PER_PROJECT": "1",
        "DRAIN_LEASE_SECONDS": "5",
    }
    with running(tmp_path_factory.mktemp("saturation"), "--no-demo", environment=limits) as stack:
        yield stack


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Operator:
    return stack.operator


def test_full_queue_refuses_at_once_and_drains_later(stack: Stack, operator: Operator) -> None:
    flow = Flow(stack, operator, "full")
    with _worker_stopped(stack):
        flow.fill(MEBIBYTE, 64 * 1024, 4096)
        queued = int(_redis(stack).get("queue:bytes") or 0)
        assert BACKLOG_LIMIT_BYTES - 1000 < queued <= BACKLOG_LIMIT_BYTES
        flow.is_refused_at_once_and_nothing_grows()
        assert int(_redis(stack).get("queue:bytes") or 0) == queued
    flow.is_stored()
    wait_for(lambda: flow.send(1).status_code == 202, "room in the queue")


def test_redis_without_memory_refuses_at_once_and_drains_later(stack: Stack, operator: Operator) -> None:
    flow = Flow(stack, operator, "memory")
    redis = _redis(stack)
    most = int(redis.info("memory")["used_memory"]) + 4 * MEBIBYTE
    try:
        with _worker_stopped(stack):
            redis.config_set("maxmemory", most)
            flow.fill(4096)  # larger records leave buffers in Redis, which it frees later
            flow.is_refused_at_once_and_nothing_grows()
    finally:
        redis.config_set("maxmemory", 0)
    flow.is_stored()
    wait_for(lambda: flow.send(1).status_code == 202, "room in the queue")


def test_idle_connections_do_not_block_the_next_client(stack: Stack, operator: Operator) -> None:
    flow = Flow(stack, operator, "idle")
    web_before = _resident(stack)
    with _open_files(2 * IDLE_CONNECTIONS) as allowed, ExitStack() as connections:
        count = min(IDLE_CONNECTIONS, allowed - 500) // 500 * 500
        assert count >= 500, "too few files may be open to test anything"
        for _ in range(count // 500):
            began = time.monotonic()
            _keep_alive(stack, connections, 500)
            # A full server would serve the next client only after half a minute, when it closes idle connections.
            assert time.monotonic() - began < 20
        took = [flow.timed(1, 202) for _ in range(100)]
        grown = _resident(stack) - web_before
    print(f"{count} idle connections: median {statistics.median(took) * 1000:.1f} ms, {grown // MEBIBYTE} MiB more")
    assert max(took) < 5
    assert statistics.median(took) < 0.1
    assert grown < 64 * 1024 * count, "more than 64 KiB of memory for an idle connection"


class Flow:
    """Records of any size for one dataset."""

    def __init__(self, stack: Stack, operator: Operator, project: str) -> None:
        self.stack, self.operator = stack, operator
        made = operator.do("make_project", slug=project, owner="ada", limit=-1, schemas=[{"text": "string"}])
        (self.dataset,) = made["datasets"]
        self.http = stack.client(operator.do("new_key", project=made["project"])["token"])
        self.accepted = 0

    def send(self, size: int) -> Any:
        """Send one record of about `size` bytes."""
        text = secrets.token_urlsafe(size)[:size]  # random text cannot be compressed
        row = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "text": text}
        answer = self.http.post(f"/datasets/{self.dataset}", content=json.dumps(row), headers=_JSON)
        self.accepted += answer.status_code == 202
        return answer

    def timed(self, size: int, expected: int) -> float:
        """Send one record. Return the seconds until the expected answer."""
        began = time.perf_counter()
        answer = self.send(size)
        took = time.perf_counter() - began
        assert answer.status_code == expected, answer.text
        return took

    def fill(self, *sizes: int) -> None:
        """Send records of these sizes, and then the smallest ones, until even these are refused."""
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        for size in (*sizes, 1):
            while not self._is_full(size):
                assert time.monotonic() < deadline, "there is always room for more"
        # Admission reads Redis's memory once a second, and Redis frees some of its own memory for a while. So there
        # may be room for a few more records.
        accepted_at = time.monotonic()
        while time.monotonic() < accepted_at + 5:
            if not self._is_full(1):
                accepted_at = time.monotonic()
            assert time.monotonic() < deadline, "there is always room for one more"

    def _is_full(self, size: int) -> bool:
        answer = self.send(size)
        assert answer.status_code in (202, 503), answer.text
        if answer.status_code == 503:
            assert answer.json()["error"] == "Ingest queue is full", answer.text
            assert int(answer.headers["Retry-After"]) >= 1
        return bool(answer.status_code == 503)

    def is_stored(self) -> None:
        """Wait until all accepted records are stored."""
        stored = {"accepted": self.accepted, "stored": self.accepted, "queued": 0, "quarantined": 0, "adds_up": True}
        wait_for(
            lambda: self.operator.do("balance", dataset=self.dataset) == {"dataset_id": self.dataset, **stored},
            f"{self.accepted} records stored",
        )

    def _timed_refusals(self) -> Iterator[float]:
        """Yield the seconds until each refusal. Redis's memory use varies, so a few records may be accepted."""
        refused = 0
        for _ in range(REFUSALS * 4):
            began = time.perf_counter()
            answer = self.send(1)
            if answer.status_code == 503:
                yield time.perf_counter() - began
                refused += 1
            if refused == REFUSALS:
                return
        raise AssertionError(f"refused {refused} times of {REFUSALS * 4}")

    def is_refused_at_once_and_nothing_grows(self) -> None:
        list(self._timed_refusals())  # warm up
        redis, web = _redis(self.stack).info("memory")["used_memory"], _resident(self.stack)
        took = sorted(self._timed_refusals())
        median, slow = took[REFUSALS // 2] * 1000, took[REFUSALS * 99 // 100] * 1000
        print(f"refused after {median:.1f} ms (median), {slow:.1f} ms (p99)")
        assert median < 50
        assert _redis(self.stack).info("memory")["used_memory"] - redis < MEBIBYTE
        assert _resident(self.stack) - web < 50 * MEBIBYTE


_JSON = {"Content-Type": "application/json"}


def _redis(stack: Stack) -> Any:
    return Redis(unix_socket_path=str(embedded_redis_socket(stack.data_dir)))


def _resident(stack: Stack) -> int:
    """Return the bytes of memory that the web processes use."""
    web = families(stack)["web"]
    return sum(process.memory_info().rss for process in (web.parent, *web.children))


@contextmanager
def _worker_stopped(stack: Stack) -> Iterator[None]:
    """Stop the worker by a signal during the block. The supervisor does not notice it, and starts no other worker."""
    worker = families(stack)["worker"]
    processes = (worker.parent, *worker.children)
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: all(process.status() == psutil.STATUS_STOPPED for process in processes), "a standstill")
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@contextmanager
def _open_files(wanted: int) -> Iterator[int]:
    """Raise the limit of open files to `wanted`, or as far as we may. Yield the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    try:
        yield max(soft, allowed)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _keep_alive(stack: Stack, connections: ExitStack, count: int) -> None:
    """Open `count` connections, and use each one once."""
    opened = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", stack.port), timeout=60)
        opened.append(connections.enter_context(connection))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for connection in opened:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
