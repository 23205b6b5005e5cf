"""Compare how fast clients, and wrk with prepared bodies, send records to one web process. They take turns.

The programs, the web process, the worker and Redis share the machine. So a rate also depends on other programs. The CPU
time per record depends on them much less.
"""

import json
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes.stack import Stack, running
from tests.support.tools import executable

FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
BATCH = 500
_WRK = """
wrk.method = "POST"
wrk.body = io.open("{body}", "rb"):read("*a")
wrk.headers["Authorization"] = "Bearer {token}"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Content-Encoding"] = {encoding}
local refused = 0
function response(status) if status ~= 202 then refused = refused + 1; print("refused " .. status) end end
"""


@dataclass(frozen=True)
class Target:
    """A service with one web process, and a dataset in it."""

    stack: Stack
    dataset_id: int
    token: str
    seconds: int

    def arguments(self) -> tuple[str, ...]:
        """Return the arguments with which a program sends records for some seconds."""
        return self.stack.url, self.token, str(self.dataset_id), str(self.seconds)


@dataclass(frozen=True)
class Sent:
    """The records per second, and the microseconds of CPU time that a record has cost its sender."""

    rate: float
    cost: float


@contextmanager
def service(seconds: int) -> Iterator[Target]:
    """Run a service whose queue has no limit."""
    limits = {name: str(10**12) for name in ("BACKLOG_LIMIT_BYTES", "BACKLOG_LIMIT_BYTES_PER_DATASET")}
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory) / "data", "--no-demo", "--web", "1", environment=limits) as stack,
    ):
        _, dataset_id, token = stack.make_dataset("throughput", FIELDS)
        yield Target(stack, dataset_id, token, seconds)


def run(*command: str | Path, cwd: Path | None = None) -> Sent:
    """Run a client. It prints JSON: the `count` of its records, the `seconds`, and the seconds of CPU time as `cpu`."""
    said = json.loads(subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, check=True).stdout)
    return Sent(said["count"] / said["seconds"], said["cpu"] / said["count"] * 1e6)


def wrk(target: Target, body: bytes, *, connections: int, is_compressed: bool) -> Sent:
    """Send the same body again and again."""
    with tempfile.TemporaryDirectory() as directory:
        script, file = Path(directory) / "batch.lua", Path(directory) / "body"
        file.write_bytes(body)
        encoding = '"gzip"' if is_compressed else "nil"
        script.write_text(_WRK.format(body=file, token=target.token, encoding=encoding))
        url = f"{target.stack.url}/datasets/{target.dataset_id}/batch"
        command = [str(executable("wrk")), "-t1", f"-c{connections}", f"-d{target.seconds}s", "-s", str(script), url]
        before = _used_by_children()
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        used = _used_by_children() - before
    assert "refused" not in printed, printed[:500]
    (line,) = [line for line in printed.splitlines() if line.startswith("Requests/sec")]
    rate = float(line.split()[1]) * BATCH
    return Sent(rate, used / (rate * target.seconds) * 1e6)


def compare(target: Target, senders: Mapping[str, Callable[[], Sent]], rounds: int) -> None:
    """Let the senders take turns. Print each result, the medians, and each median rate as a share of the first."""
    web = [psutil.Process(pid) for pid in target.stack.web_processes()]
    rates: dict[str, list[float]] = {name: [] for name in senders}
    costs: dict[str, list[float]] = {name: [] for name in senders}
    for _ in range(rounds):
        for name, send in senders.items():
            before = _used(web)
            sent = send()
            of_web = (_used(web) - before) / (sent.rate * target.seconds) * 1e6
            rates[name].append(sent.rate)
            costs[name].append(sent.cost)
            print(
                f"{name}: {sent.rate:,.0f} records/s. CPU time of one: {sent.cost:.2f} µs, web process {of_web:.2f} µs"
            )
    best = statistics.median(next(iter(rates.values())))
    for name, found in rates.items():
        rate, cost = statistics.median(found), statistics.median(costs[name])
        print(f"median of {name}: {rate:,.0f} records/s, {rate / best:.0%} of the first, {cost:.2f} µs of CPU time")


def _used(processes: Sequence[psutil.Process]) -> float:
    """Return the seconds of CPU time that processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _used_by_children() -> float:
    """Return the seconds of CPU time that this process's programs have used, if they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
