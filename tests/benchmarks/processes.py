"""Processes that a benchmark starts: what they cost, and how they end."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from config.common.env import BASE_DIR
from tests.benchmarks.failure import BenchmarkFailed

PATIENCE_SECONDS = 120.0


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    check: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS, pause: float = 0.05
) -> None:
    """Ask again and again until `check` is true. Raises BenchmarkFailed."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{what}: not within {seconds:.0f} seconds")
        time.sleep(pause)


class Tree:
    """A process and all that descend from it."""

    def __init__(self, name: str, pid: int | None = None) -> None:
        self.name = name
        self.pid = pid  # None: it does not run

    def cpu_seconds(self) -> float:
        """CPU time so far, that of descendants that have ended included."""
        # user and system, its own and that of the children that it has waited for
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def resident_bytes(self) -> int:
        """Resident memory now; pages that processes share count for each."""
        return int(self._sum(lambda process: process.memory_info().rss))

    def _sum(self, measure: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid) if self.pid is not None else None
            for process in (root, *root.children(recursive=True)) if root else ():
                with suppress(psutil.NoSuchProcess):
                    total += measure(process)
        return total


class Server(Tree):
    """A process that we start and stop, with whatever it starts."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name)
        self.log = log
        self._command = list(command)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait until it serves."""
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C is ours, and we stop it when we are done.
            self._process = subprocess.Popen(
                self._command,
                cwd=BASE_DIR,
                env={**os.environ, "C_FORCE_ROOT": "1", **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def stop(self) -> None:
        """Ask it to end, and make sure that nothing of it is left."""
        process, self._process, self.pid = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log_end(self) -> str:
        """The last lines of what it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:]) if self.log.exists() else ""
