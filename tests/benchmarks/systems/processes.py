"""Start, measure and end the processes of a benchmark."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from config.common.env import BASE_DIR
from tests.benchmarks.failure import BenchmarkFailed

PATIENCE_SECONDS = 120.0


def wait_until(
    check: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS, pause: float = 0.05
) -> None:
    """Wait until `check` is true. Raises BenchmarkFailed."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{what}: not within {seconds:.0f} seconds")
        time.sleep(pause)


class Tree:
    """A process and all its descendants."""

    def __init__(self, name: str, pid: int | None = None) -> None:
        self.name = name
        self.pid = pid  # None: the process is not running

    def cpu_seconds(self) -> float:
        """Return the CPU seconds so far, including descendants that have ended."""
        # These are user and system time of the process, and of the children that it has waited for.
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def resident_bytes(self) -> int:
        """Return the resident memory now. Shared pages count for each process."""
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
    """A process that we start and stop, with its descendants."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name)
        self.log = log
        self._command = list(command)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, but do not wait until it serves."""
        with self.log.open("ab") as log:
            # The process gets a new session, so that Ctrl-C reaches only us. We stop the process at the end.
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
        """Ask the process to end, and kill its processes that do not end."""
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
        """Return the last lines of the process's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:]) if self.log.exists() else ""
