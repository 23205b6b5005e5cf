"""Clients that send slowly, send nothing, or never read block no other client."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from tests.abuse.conftest import THREADS, Tenant
from tests.support.processes.stack import Stack, wait_for
from tests.support.sending.connection import TEXT, Connection

MANY = 6 * THREADS
# A body counts as slow after one second. Until then all threads may wait.
SOON_SECONDS = 5.0


@contextmanager
def stalled(count: int, stack: Stack, path: str, token: str | None, *lines: str) -> Iterator[list[Connection]]:
    """Open this many requests whose bodies stop after one byte."""
    with ExitStack() as connections:
        opened = [connections.enter_context(Connection(stack.port, token)) for _ in range(count)]
        for each in opened:
            each.post(path, "Content-Length: 100", *lines)
            each.send(b"{")
        yield opened


def is_served_soon(tenant: Tenant) -> None:
    """Assert that a record is accepted and /healthz answers, both soon."""
    began = time.monotonic()
    with tenant.connect() as connection:
        connection.head("GET /healthz")
        assert connection.answer().status == 200
        connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
        connection.send(TEXT)
        assert connection.answer().status == 202
    assert time.monotonic() - began < SOON_SECONDS


def test_a_slow_sender_blocks_only_itself(tenant: Tenant, neighbor: Tenant) -> None:
    with stalled(MANY, tenant.stack, f"/datasets/{tenant.dataset}", tenant.token) as connections:
        is_served_soon(neighbor)
        with tenant.connect() as another:
            another.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
            another.send(TEXT)
            answer = another.answer()
        assert (answer.status, answer.json()["error"]) == (408, "Request body too slow")
        assert answer.headers["retry-after"] == "1"
        # The requests that got a thread continue when their bodies do. The others have their answers already.
        for each in connections:
            each.send(b" " * 99)
        statuses = [each.answer().status for each in connections]
        assert set(statuses) == {400, 408}
        assert statuses.count(400) <= THREADS // 3
    wait_for(lambda: _is_taken(tenant), "an end of the refusals", seconds=SOON_SECONDS)


def _is_taken(tenant: Tenant) -> bool:
    with tenant.connect() as connection:
        connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
        connection.send(TEXT)
        return connection.answer().status == 202


def test_ten_slow_tenants_leave_room_for_another(service: Stack, neighbor: Tenant) -> None:
    """The tenants come one after the other: so each blocks half of the free threads, which is the most they can get."""
    *ten, eleventh = together(service, 11)
    with ExitStack() as connections:
        for hostile in ten:
            connections.enter_context(stalled(MANY, service, f"/datasets/{hostile.dataset}", hostile.token))
            is_served_soon(neighbor)
        for _ in range(20):
            is_served_soon(neighbor)

        def the_last_is_taken() -> bool:  # the neighbor may hold it at the moment
            connections.enter_context(stalled(1, service, f"/datasets/{eleventh.dataset}", eleventh.token))
            return not _is_taken(neighbor)

        wait_for(the_last_is_taken, "the last thread for bodies to be taken", seconds=SOON_SECONDS)
        with Connection(service.port) as connection:
            for _ in range(20):
                connection.head("GET /healthz")
                assert connection.answer("GET").status == 200
    wait_for(lambda: _is_taken(neighbor), "an end of the refusals", seconds=SOON_SECONDS)


def together(stack: Stack, count: int) -> list[Tenant]:
    """Make this many projects, each with a dataset and a key, by one command."""
    made = stack.manage("shell", "-v0", "-c", _MAKE.format(count=count))
    return [Tenant(stack, int(dataset), token) for dataset, token in map(str.split, made.splitlines())]


_MAKE = """
from django.contrib.auth.models import User
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.schemas.schema import Field
owner = User.objects.create_user("hostile")
for number in range({count}):
    project = services.create_project(slug=f"hostile-{{number}}", owner=owner)
    dataset = services.create_dataset(project=project, name="Slow", fields=[Field("text", "string")])
    print(dataset.pk, issue_token(services.create_key(project=project, name="slow")))
"""


def test_a_slow_sender_without_a_key_holds_no_thread(tenant: Tenant, neighbor: Tenant) -> None:
    for token in (None, "nonsense", f"{tenant.token}x"):
        with stalled(MANY, tenant.stack, f"/datasets/{tenant.dataset}", token) as connections:
            assert {each.answer().status for each in connections} == {401}
    is_served_soon(neighbor)


def test_slow_forms_leave_threads_to_the_api(service: Stack, neighbor: Tenant) -> None:
    """The admin reads a form before it knows who sent it."""
    cookie = f"Cookie: csrftoken={'a' * 32}"
    form = "Content-Type: application/x-www-form-urlencoded"
    with ExitStack() as connections:
        for _ in range(MANY):
            each = connections.enter_context(Connection(service.port))
            each.head("POST /admin/login/", cookie, form, "Content-Length: 100")
            each.send(b"a")
        is_served_soon(neighbor)
    with Connection(service.port) as connection:
        connection.head("GET /admin/login/")
        assert connection.answer().status == 200


def test_unread_static_files_hold_no_thread(service: Stack, neighbor: Tenant) -> None:
    request = b"GET /static/unfold/css/styles.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as connections:
        for _ in range(2 * THREADS):
            each = connections.enter_context(Connection(service.port))
            each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.send(request * 100)
        for _ in range(3):
            is_served_soon(neighbor)


def test_slow_heads_hold_no_thread(service: Stack, neighbor: Tenant) -> None:
    with ExitStack() as connections:
        for _ in range(MANY):
            connections.enter_context(Connection(service.port)).send(b"POST /datasets HTTP/1.1\r\nHost: loc")
        is_served_soon(neighbor)


def test_the_kernel_detects_vanished_clients(service: Stack) -> None:
    """The keepalive timer of the web process's end of a connection runs."""
    with Connection(service.port) as connection:
        port = connection.socket.getsockname()[1]
        wait_for(lambda: _keepalive_timer_runs(service.port, port), "the timer", seconds=SOON_SECONDS)


def _keepalive_timer_runs(own: int, peer: int) -> bool:
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{own:04X}") and fields[2].endswith(f":{peer:04X}"):
                return fields[5].startswith("02:")  # include/net/tcp: 2 is the keepalive timer
    return False


def test_two_thousand_idle_connections_leave_room_for_another(service: Stack, neighbor: Tenant) -> None:
    (pid,) = service.web_processes()
    web = psutil.Process(pid)
    before = web.memory_info().rss
    with ExitStack() as connections:
        for _ in range(4):
            opened = [connections.enter_context(Connection(service.port)) for _ in range(500)]
            for each in opened:
                each.head("GET /healthz")
            assert all(each.answer().status == 200 for each in opened)
        for _ in range(5):
            is_served_soon(neighbor)
        assert web.memory_info().rss - before < 2000 * 32 * 1024


def test_workers_waiting_for_bodies_end_with_the_main_process(tenant: Tenant) -> None:
    """An orderly end waits for these bodies. That wait must be bounded."""
    main = tenant.stack.program("web")
    before = main.children()
    with stalled(MANY, tenant.stack, f"/datasets/{tenant.dataset}", tenant.token):
        main.kill()
        _, left = psutil.wait_procs(before, timeout=60)
        assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    wait_for(lambda: _is_up(tenant), "other web processes")


def _is_up(tenant: Tenant) -> bool:
    try:
        return _is_taken(tenant)
    except OSError:
        return False
