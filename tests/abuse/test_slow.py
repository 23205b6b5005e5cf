"""Clients block no other client if they send slowly, send nothing, or never read."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from tests.abuse.conftest import THREADS, Tenant
from tests.support.processes.stack import Stack, wait_for
from tests.support.sending.connection import ROW, TEXT, Connection
from tests.support.sending.wire import Answer

MANY = 6 * THREADS
# A request that waits for no other client is answered within this time, also on a busy machine.
SOON_SECONDS = 5.0


@contextmanager
def stalled(count: int, stack: Stack, path: str, token: str | None, *lines: str) -> Iterator[list[Connection]]:
    """Open `count` requests whose bodies stop after one byte."""
    with ExitStack() as connections:
        opened = [connections.enter_context(Connection(stack.port, token)) for _ in range(count)]
        for each in opened:
            each.post(path, "Content-Length: 100", *lines)
            each.send(b"{")
        yield opened


def is_served_soon(tenant: Tenant) -> None:
    """Assert that a record is accepted and /healthz answers, together within SOON_SECONDS."""
    began = time.monotonic()
    is_served(tenant)
    assert time.monotonic() - began < SOON_SECONDS


def is_served(tenant: Tenant) -> None:
    """Assert that /healthz answers over a new connection, and that a record is accepted over this connection."""
    with tenant.connect() as connection:
        connection.head("GET /healthz")
        assert connection.answer().status == 200
        connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
        connection.send(TEXT)
        assert connection.answer().status == 202


def test_slow_bodies_delay_no_one(tenant: Tenant, neighbor: Tenant) -> None:
    """They do not even delay other requests of their own sender, because a body that arrives slowly takes no thread."""
    (pid,) = tenant.stack.web_processes()
    web = psutil.Process(pid)
    is_served_soon(neighbor)
    before = web.memory_info().rss
    with stalled(2000, tenant.stack, f"/datasets/{tenant.dataset}", tenant.token) as connections:
        for _ in range(5):
            is_served_soon(neighbor)
            is_served_soon(tenant)
        assert web.memory_info().rss - before < 2000 * 64 * 1024
        for each in connections:
            each.send(b" " * 99)
        assert {each.answer().status for each in connections} == {400}


def test_large_slow_bodies_block_only_their_sender(tenant: Tenant, neighbor: Tenant) -> None:
    """The bodies take all memory that their project may use, so its next large body is refused. Others have room."""
    large = json.dumps({**ROW, "text": "x" * 9_000_000}).encode()

    def send(by: Tenant) -> Answer:
        with by.connect() as connection:
            connection.post(f"/datasets/{by.dataset}", f"Content-Length: {len(large)}")
            connection.send(large)
            return connection.answer()

    with ExitStack() as connections:
        for _ in range(40):
            each = connections.enter_context(tenant.connect())
            each.post(f"/datasets/{tenant.dataset}", "Content-Length: 9000000")
            each.send(b"{")
        is_served_soon(tenant)
        assert send(neighbor).status == 202
        refused = send(tenant)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "Nothing was queued or charged." in refused.json()["detail"]
    wait_for(lambda: send(tenant).status == 202, "room", seconds=SOON_SECONDS)


def _is_taken(tenant: Tenant) -> bool:
    with tenant.connect() as connection:
        connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {len(TEXT)}")
        connection.send(TEXT)
        return connection.answer().status == 202


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
    """The keepalive timer runs for the web process's end of a connection."""
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
    """A process that ends normally waits for these bodies. This wait must have a limit."""
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
