"""Many small bodies expand to the limit at the same time. Half of the clients never read their answers."""

import gzip
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from tests.abuse.conftest import THREADS, Tenant
from tests.abuse.test_slow import is_served_soon
from tests.support.processes.stack import PATIENCE_SECONDS
from tests.support.sending.connection import TEXT, Connection

pytestmark = pytest.mark.long

LIMIT = 10 * 1024 * 1024
# All requests of a process together may take this memory: the bodies, and the objects of two bodies, because two
# threads validate large bodies. tests/ingest/validation/test_memory.py measures the objects of one body.
MAX_BYTES = settings.BODY_MEMORY_BYTES + 2 * 7 * LIMIT


def compressed(element: bytes) -> bytes:
    """Return about 10 KB of gzip, which expand to an array with as many elements as a body can hold."""
    return gzip.compress(b"[" + (element + b",") * ((LIMIT - 1000) // (len(element) + 1)) + element + b"]")


BODIES = {
    "numbers": compressed(b"1"),
    "objects": compressed(b"{}"),
    "records": compressed(TEXT),
    "a wide object": gzip.compress(b"[{" + b",".join(b'"%d":1' % number for number in range(400_000)) + b"}]"),
    "a long name": gzip.compress(b'[{"' + "é".encode() * 5_000_000 + b'":1}]'),
}


def peak(pid: int) -> int:
    """Return the peak of a process's resident memory in bytes, since it was last cleared."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_expanding_bodies_take_bounded_memory(tenant: Tenant, neighbor: Tenant, body: bytes) -> None:
    (pid,) = tenant.stack.web_processes()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the peak, VmHWM
    before = psutil.Process(pid).memory_info().rss

    def send(connection: Connection) -> Connection:
        connection.post(f"/datasets/{tenant.dataset}/batch", "Content-Encoding: gzip", f"Content-Length: {len(body)}")
        connection.send(body)
        return connection

    with ExitStack() as connections, ThreadPoolExecutor(THREADS) as pool:
        opened = [connections.enter_context(tenant.connect()) for _ in range(THREADS)]
        for each in opened:
            each.socket.settimeout(PATIENCE_SECONDS)
        list(pool.map(send, opened))
        answers = list(pool.map(Connection.answer, opened[::2]))  # the other half of the clients never reads
        is_served_soon(neighbor)
        assert {answer.status for answer in answers} <= {400, 413, 503}
        assert max(len(answer.body) for answer in answers) < 50_000
        assert peak(pid) - before < MAX_BYTES
