"""Limits of queries, and what happens to their processes. A stopped process behaves like one with a heavy query."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from pytest_django import Settings

from config.common import loop
from config.common.env import BASE_DIR
from config.web.asgi import application
from datasets.queries import figures
from datasets.queries.processes import permits, pool
from tests.datasets.api.queries.conftest import Queries, error_of, sent
from tests.support.processes.stack import wait_for


@pytest.fixture(autouse=True)
def own_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test begin and end without query processes."""
    monkeypatch.setattr(pool, "POOL", pool.Pool())
    yield
    pool.POOL.end()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def idle_process(queries: Queries) -> int:
    """Return the PID of the only query process, which has nothing to do."""
    queries.ok({})
    (pid,) = pool.POOL.pids()
    return pid


def stopped(queries: Queries) -> int:
    """Stop the only query process by a signal. Return its PID."""
    pid = idle_process(queries)
    os.kill(pid, signal.SIGSTOP)
    return pid


def running(queries: Queries, threads: ThreadPoolExecutor) -> Future[httpx.Response]:
    """Send a query, and wait until the idle process runs it. Return the answer to come."""
    future = threads.submit(queries.ask, {})
    wait_for(lambda: pool.POOL.pids() == [], "the query begins")
    return future


def assert_gone(pid: int) -> None:
    wait_for(lambda: not psutil.pid_exists(pid), f"the end of process {pid}")


def assert_works(queries: Queries, count: int = 0) -> None:
    assert queries.rows() == [{"count": count}]


# -- time and memory ----------------------------------------------------------------------------------


def test_a_query_beyond_the_time_limit_is_stopped(queries: Queries, settings: Settings) -> None:
    pid = stopped(queries)
    settings.QUERY_TIMEOUT_SECONDS = 0.3
    answer = queries.ask({})
    assert error_of(answer) == (408, "Query too slow", "query_too_slow")
    assert answer.json()["limit"] == 0.3
    assert "stopped after 0.3 seconds" in answer.json()["detail"]
    assert_gone(pid)
    settings.QUERY_TIMEOUT_SECONDS = 60.0
    assert_works(queries)


def test_a_result_beyond_the_memory_limit_is_refused(queries: Queries, settings: Settings) -> None:
    for _ in range(6):
        queries.store(*(sent(context={"text": "x" * 1_000_000}) for _ in range(9)))
    limit = settings.QUERY_MEMORY_BYTES = 64 * 1024**2
    answer = queries.ask({"select": [{"field": "context"}], "limit": 1000})
    assert error_of(answer) == (413, "Query too large", "query_too_large")
    assert answer.json()["limit"] == limit
    assert f"more than {limit:,} bytes" in answer.json()["detail"]
    assert_works(queries, 54)


def test_a_process_that_grows_is_killed(queries: Queries, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = stopped(queries)
    monkeypatch.setattr(pool.QueryProcess, "growth", lambda _: 2**40)
    assert error_of(queries.ask({}))[2] == "query_too_large"
    assert_gone(pid)


def test_the_growth_of_a_process_is_its_own_memory(queries: Queries) -> None:
    process = pool.QueryProcess()
    process.await_start(lambda: False)
    try:
        assert abs(process.growth()) < 5_000_000
        whole = psutil.Process(process.pid).memory_full_info()
        assert 0.5 * whole.uss < process._memory_at_start < 1.5 * whole.uss
    finally:
        process.end()


# -- concurrency --------------------------------------------------------------------------------------


def test_a_project_runs_a_limited_number_of_queries(
    queries: Queries, settings: Settings, threads: ThreadPoolExecutor
) -> None:
    settings.QUERY_CONCURRENCY = 1
    pid = stopped(queries)
    first = running(queries, threads)
    second = queries.ask({})
    assert error_of(second) == (429, "Too many queries", "too_many_queries")
    assert int(second.headers["Retry-After"]) > 0
    assert second.json()["limit"] == 1
    os.kill(pid, signal.SIGCONT)
    assert first.result().status_code == 200
    assert_works(queries)


def test_another_project_is_not_refused(queries: Queries, settings: Settings) -> None:
    settings.QUERY_CONCURRENCY = 1
    held = permits.take("project_0", 1)
    assert held is not None
    assert_works(queries)


def test_queries_wait_a_limited_time_for_a_processor(
    queries: Queries, settings: Settings, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "processors", lambda: {0})
    held = permits.take("processor", 1)
    assert held is not None
    settings.QUERY_TIMEOUT_SECONDS = 0.2
    answer = queries.ask({})
    assert error_of(answer) == (429, "Too many queries", "too_many_queries")
    assert "all processors" in answer.json()["detail"]

    settings.QUERY_TIMEOUT_SECONDS = 60.0
    asked_for: list[str] = []
    take = permits.take

    def noting(name: str, count: int) -> permits.Permit | None:
        asked_for.append(name)
        return take(name, count)

    monkeypatch.setattr(permits, "take", noting)
    waiting = threads.submit(queries.ask, {})
    wait_for(lambda: "processor" in asked_for, "the query waits in line")
    held.release()
    assert waiting.result().status_code == 200


def test_a_permit_counts_in_all_processes_until_its_process_is_killed() -> None:
    code = "import sys; from django.conf import settings; from datasets.queries.processes import permits\n"
    code += "held = permits.take('project_7', 2); print(held is not None, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    other = subprocess.Popen(
        command, cwd=BASE_DIR, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        own = permits.take("project_7", 2)
        assert own is not None
        assert permits.take("project_7", 2) is None
    finally:
        other.kill()
        other.wait()
    assert permits.take("project_7", 2) is not None


# -- the life of a process ----------------------------------------------------------------------------


def test_a_killed_process_is_replaced(queries: Queries, threads: ThreadPoolExecutor) -> None:
    pid = stopped(queries)
    answer = running(queries, threads)
    os.kill(pid, signal.SIGKILL)
    assert error_of(answer.result()) == (503, "Service unavailable", "service_unavailable")
    assert "Send the query again" in answer.result().json()["detail"]
    idle = psutil.Process(idle_process(queries))
    idle.kill()
    wait_for(lambda: idle.status() == psutil.STATUS_ZOMBIE, "the end of the idle process")
    assert_works(queries)


def test_one_process_serves_many_queries_with_the_lowest_priority(queries: Queries) -> None:
    pid = idle_process(queries)
    assert idle_process(queries) == pid
    process = psutil.Process(pid)
    assert process.nice() == 19
    if sys.platform == "linux":
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        ours = os.sched_getaffinity(0)
        assert len(ours - os.sched_getaffinity(pid)) == (1 if len(ours) > 1 else 0)
        with open(f"/proc/{pid}/oom_score_adj") as score:
            assert score.read() == "1000\n"


def test_a_process_without_queries_ends(queries: Queries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.2)
    pid = idle_process(queries)
    assert_gone(pid)
    assert_works(queries)


def test_a_process_needs_neither_models_nor_redis() -> None:
    code = "import sys, datasets.queries.processes.worker\n"
    code += "print({'django.db', 'redis', 'rest_framework'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_query_ends_with_its_web_process() -> None:
    code = "import sys; from datasets.queries.processes.pool import QueryProcess\n"
    code += (
        "process = QueryProcess(); process.await_start(lambda: False); print(process.pid, flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    web = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=BASE_DIR,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert web.stdout is not None
    pid = int(web.stdout.readline())
    os.kill(pid, signal.SIGSTOP)  # it cannot notice the end of its connection
    web.kill()
    web.wait()
    os.kill(pid, signal.SIGCONT)
    assert_gone(pid)


# -- clients that disconnect --------------------------------------------------------------------------


def test_a_client_that_disconnects_cancels_its_query(
    queries: Queries, threads: ThreadPoolExecutor, settings: Settings
) -> None:
    settings.QUERY_CONCURRENCY = 1
    pid = stopped(queries)
    disconnected = threading.Event()
    served = threads.submit(loop.run, application(scope_of(queries), *ends_of(disconnected)))
    wait_for(lambda: pool.POOL.pids() == [], "the query begins")
    disconnected.set()
    served.result()
    assert_gone(pid)
    assert figures.totals().refused == {"canceled": 1}
    assert_works(queries)


def scope_of(queries: Queries) -> dict[str, Any]:
    path = f"/api{queries.path}"
    headers = {"host": "testserver", "content-type": "application/json", "content-length": "2"}
    headers["authorization"] = f"Bearer {queries.client.token}"
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def ends_of(disconnected: threading.Event) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Return ASGI's `receive` and `send` of a client that disconnects."""
    messages: list[Mapping[str, Any]] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Mapping[str, Any]:
        if messages:
            return messages.pop()
        while not disconnected.is_set():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        pass

    return receive, send
