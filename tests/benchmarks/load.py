"""Generate load with wrk and prepared requests."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.failure import BenchmarkFailed

_SCRIPT = Path(__file__).with_name("wrk.lua")
# A slow answer is not an error. Only a missing answer is an error.
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and with which key."""

    path: str
    token: str


@dataclass(frozen=True, slots=True)
class Load:
    """The result of wrk."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    most_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Running:
    """A running wrk."""

    besides = 0  # records that were sent to the same system in another way

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._load: Load | None = None

    def ended(self) -> bool:
        return self._process.poll() is not None

    def result(self) -> Load:
        """Wait until wrk ends. Raises BenchmarkFailed if an answer was missing or not 202."""
        self._load = self._load or self._wait()
        return self._load

    def _wait(self) -> Load:
        printed, _ = self._process.communicate()
        lines = [line for line in printed.splitlines() if line.startswith("BENCH ")]
        if not lines:
            raise BenchmarkFailed(f"wrk did not end:\n{printed}")
        found = json.loads(lines[-1].removeprefix("BENCH "))
        if found["unexpected"] or found["broken"] or not found["requests"]:
            raise BenchmarkFailed(f"not every request was accepted: {found}\n{printed}")
        return Load(
            found["requests"], found["micros"] / 1e6, found["p50"] / 1e3, found["p99"] / 1e3, found["most"] / 1e3
        )


@contextmanager
def running(
    url: str,
    targets: Sequence[Target],
    bodies: Sequence[Path],
    *,
    connections: int,
    seconds: float,
    check: bool = False,
    pause_ms: float | None = None,
) -> Iterator[Running]:
    """Send `bodies` to `targets` in turn for some seconds. With `check`, wrk checks each answer, but is slower."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as requests:
        for number in range(max(len(targets), len(bodies))):
            target, body = targets[number % len(targets)], bodies[number % len(bodies)]
            requests.write(f"{target.path}\t{target.token}\t{body}\n")
        requests.flush()
        environment = {**os.environ, "BENCH_REQUESTS": requests.name}
        if check:
            environment["BENCH_CHECK"] = "1"
        if pause_ms is not None:
            environment["BENCH_PAUSE_MS"] = str(pause_ms)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += [f"--timeout={_TIMEOUT_SECONDS}s", f"-s{_SCRIPT}", url]
        process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Running(process)
        finally:
            process.kill()
            process.wait()
