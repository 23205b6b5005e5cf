"""A refusal before the body has arrived reaches clients that read only after they have sent all of it."""

import http.client
import json
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.abuse.conftest import THREADS, Tenant
from tests.abuse.test_slow import is_served_soon, stalled
from tests.support.processes.stack import wait_for
from tests.support.sending.connection import TEXT, Connection
from tests.support.tools import executable

TRIES = 6
FITS = b" " * 9_500_000


@pytest.mark.parametrize(
    ("status", "token", "dataset", "content_type", "body"),
    [
        (401, "nonsense", 0, "application/json", FITS),
        (404, None, 999_999, "application/json", FITS),
        (415, None, 0, "text/plain", FITS),
        (413, None, 0, "application/json", FITS * 3),
    ],
)
def test_http_client_of_python_gets_every_answer(
    tenant: Tenant, status: int, token: str | None, dataset: int, content_type: str, body: bytes
) -> None:
    headers = {"Authorization": f"Bearer {token or tenant.token}", "Content-Type": content_type}
    seen = Counter[object]()
    for _ in range(TRIES):
        client = http.client.HTTPConnection("127.0.0.1", tenant.stack.port, timeout=60)
        try:
            client.request("POST", f"/datasets/{dataset or tenant.dataset}/batch", body, headers)
            seen[client.getresponse().status] += 1
        except OSError as lost:
            seen[type(lost).__name__] += 1
        finally:
            client.close()
    assert seen == {status: TRIES}


def test_fetch_in_node_gets_every_answer(tenant: Tenant) -> None:
    script = Path(__file__).parent / "node.mjs"
    command = [executable("node"), str(script), tenant.stack.url, tenant.token, str(tenant.dataset), "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {f"{status}: {status}": 16 for status in (401, 404, 413, 415)}


def test_a_client_on_a_slow_line_gets_the_answer(tenant: Tenant) -> None:
    with Connection(tenant.stack.port, tenant.token) as connection:
        connection.post(f"/datasets/{tenant.dataset}", f"Content-Length: {12 * 1024 * 1024}")
        began = time.monotonic()
        while time.monotonic() - began < 12:
            connection.send(b" " * 100_000)
            time.sleep(0.2)
        assert connection.answer().status == 413


def test_the_answer_comes_before_the_body_and_is_readable(tenant: Tenant) -> None:
    for length in (f"Content-Length: {len(FITS)}", "Transfer-Encoding: chunked"):
        with Connection(tenant.stack.port, "nonsense") as connection:
            connection.post(f"/datasets/{tenant.dataset}", length)
            answer = connection.answer()
            assert (answer.status, answer.headers["connection"]) == (401, "close")
            if "chunked" in length:
                connection.chunk(FITS)
                connection.send(b"0\r\n\r\n")
            else:
                connection.send(FITS)
            assert connection.socket.recv(1) == b"", "the connection was reset"


def test_an_unauthenticated_body_is_read_up_to_the_limit(tenant: Tenant) -> None:
    with Connection(tenant.stack.port, "nonsense") as connection:
        connection.post(f"/datasets/{tenant.dataset}", "Content-Length: 1000000000")
        assert connection.answer().status == 401
        sent = 0
        with suppress(ConnectionResetError, BrokenPipeError):
            while sent < 1_000_000_000:
                connection.send(FITS)
                sent += len(FITS)
        assert sent < 10 * len(FITS)  # what the service read, and what the kernel buffered


def test_discarded_bodies_hold_no_web_threads(tenant: Tenant, neighbor: Tenant) -> None:
    """Two kinds of clients stop within a body: clients without a key, and a tenant whose requests are refused."""
    (pid,) = tenant.stack.web_processes()
    web = psutil.Process(pid)
    is_served_soon(neighbor)
    before = web.num_threads()
    path = f"/datasets/{tenant.dataset}"
    with ExitStack() as held:
        for round_ in range(4):
            strangers = held.enter_context(stalled(2 * THREADS, tenant.stack, path, "nonsense"))
            refused = held.enter_context(stalled(2 * THREADS, tenant.stack, "/datasets/999999", tenant.token))
            assert {each.answer().status for each in strangers} == {401}, round_
            assert {each.answer().status for each in refused} == {404}, round_
            is_served_soon(neighbor)
        assert web.num_threads() <= before + THREADS + 64
    wait_for(lambda: web.num_threads() <= before + THREADS, "an end of the threads")

    def gets_the_answer() -> bool:
        """Return whether a client gets its 404 at the end of its body.

        The service discards only a limited number of bodies at the same time. It may not have noticed yet that the
        connections of other bodies have ended.
        """
        with neighbor.connect() as connection, suppress(ConnectionResetError, BrokenPipeError):
            connection.post("/datasets/999999", f"Content-Length: {len(FITS)}")
            connection.send(FITS)
            return connection.answer().status == 404
        return False

    wait_for(gets_the_answer, "an answer to a large refused body")


def test_a_stalled_refused_body_does_not_stop_the_process(tenant: Tenant, neighbor: Tenant) -> None:
    """In an earlier version, the process stopped a second after the refusal, until the client disconnected."""
    with stalled(1, tenant.stack, f"/datasets/{tenant.dataset}", "nonsense") as (stranger,):
        assert stranger.answer().status == 401
        until = time.monotonic() + 3
        while time.monotonic() < until:
            is_served_soon(neighbor)


def test_a_refused_client_gets_no_100_continue(tenant: Tenant) -> None:
    with Connection(tenant.stack.port, "nonsense") as connection:
        connection.post(f"/datasets/{tenant.dataset}", "Expect: 100-continue", f"Content-Length: {len(TEXT)}")
        assert connection.answer().status == 401
        assert connection.is_over()
