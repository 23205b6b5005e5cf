"""The whole service takes so little memory that it runs on a machine with 1 GB."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.processes.stack import Stack, running, wait_for

pytestmark = pytest.mark.long

IDLE_MB = 400
AFTER_LARGE_BODIES_MB = 250
JSON = {"Content-Type": "application/json"}
# Only processes that read or write tables may load these packages.
OF_TABLES = ("/pyarrow/", "/numpy/", "/deltalake/")

RECORD = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "text": "a"}

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel does not tell")


def proportional_mb(process: psutil.Process) -> float:
    """Return the memory of a process in MB. Shared memory is divided by the number of processes that share it."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def packages_of_tables(process: psutil.Process) -> list[str]:
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    return [name for name in OF_TABLES if name in maps]


def use(stack: Stack) -> None:
    """Send and store a record, and open a page of the admin, in each web process."""
    _, dataset, token = stack.make_dataset("small", {"text": "string"})
    unused, sent = stack.web_processes(), 0
    while unused:
        with stack.client(token) as client:
            assert client.post(f"/datasets/{dataset}", json=RECORD).status_code == 202
            assert client.get("/admin/login/").status_code == 200
            unused.discard(stack.pid_behind(client, stack.web_processes()))
        sent += 1
    stack.wait_until_drained(dataset, sent)


def test_an_idle_service_takes_little_memory(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--no-demo", "--web", "2") as stack:
        with stack.client() as client:
            wait_for(lambda: client.get("/readyz").status_code == 200, "readiness")
        wait_for(lambda: len(stack.web_processes()) == 2, "two web processes")
        use(stack)
        assert stack.process is not None
        up = psutil.Process(stack.process.pid)
        found = {each: proportional_mb(each) for each in (up, *up.children(recursive=True))}
        figures = "\n".join(f"{mb:6.1f} {' '.join(each.cmdline())[-100:]}" for each, mb in found.items())
        assert sum(found.values()) < IDLE_MB, f"MB of each process:\n{figures}"

        others = [stack.program("beat"), stack.program("upkeep"), *map(psutil.Process, stack.web_processes())]
        assert {each.pid: packages_of_tables(each) for each in others} == {each.pid: [] for each in others}, figures
        assert packages_of_tables(stack.program("worker")) == [*OF_TABLES]  # so these are the right names


def test_a_web_process_gives_memory_back_after_large_bodies(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--no-demo", "--web", "1") as stack:
        _, dataset, token = stack.make_dataset("large", {"text": "string"})
        body = json.dumps([{**RECORD, "text": "a" * 1000}] * 8000).encode()

        def send(_: int) -> None:
            with stack.client(token) as client:
                answer = client.post(f"/datasets/{dataset}/batch", content=body, headers=JSON, timeout=120)
                assert answer.status_code in (202, 503), answer.text  # 503: too many large bodies

        with ThreadPoolExecutor(8) as senders:
            list(senders.map(send, range(32)))
        (web,) = map(psutil.Process, stack.web_processes())
        print("KEPT", proportional_mb(web))
        wait_for(lambda: proportional_mb(web) < AFTER_LARGE_BODIES_MB, f"less memory than {proportional_mb(web)} MB")
