"""The query processes of a web process: it starts, watches and ends them.

A query may take much time and memory, so it runs in another process, which has the lowest priority. The web process
kills that process if the query reaches a limit. The web process starts a query process when a query needs one, lets it
run one query after the other, and ends it after a minute without queries. So a service without queries has no query
process.
"""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings

from config.common.env import BASE_DIR
from config.common.errors import Refused
from datasets.queries.errors import QueryTooLarge, QueryTooSlow
from datasets.queries.processes import permits
from datasets.queries.processes.messages import READY, Job, Outcome, receive_outcome, send_job

_START_SECONDS = 30.0
_IDLE_SECONDS = 60.0
_WATCH_SECONDS = 0.01  # the time between two looks at a running query
_RETRY_SECONDS = 0.05  # the time after which a waiting query looks again for a free processor
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class QueryCanceled(Refused):
    """The client has disconnected, so nothing reads the answer."""

    code = "canceled"  # for metrics

    def __init__(self) -> None:
        super().__init__("The client has disconnected.")


class NoProcessor(Exception):
    """Other queries have used all processors for as long as a query may take."""


class ProcessEnded(Exception):
    """The query process has ended, or did not start in time."""


class QueryProcess:
    """One process that runs queries, and the connection to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            worker = ["datasets.queries.processes.worker", str(theirs.fileno())]
            command = [sys.executable, "-m", "config.processes.end_with_parent", sys.executable, "-m", *worker]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=BASE_DIR
            )
        self._connection = ours
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self._memory_at_start = 0
        self.idle_since = 0.0

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def await_start(self, is_canceled: Callable[[], bool]) -> None:
        """Wait until the process has imported what it needs. Raises ProcessEnded or QueryCanceled."""
        self._wait(_START_SECONDS, is_canceled, ProcessEnded)
        if self._connection.recv(len(READY)) != READY:
            raise ProcessEnded
        self._memory_at_start = self._memory()

    def run(self, job: Job, file: IO[bytes], is_canceled: Callable[[], bool]) -> Outcome:
        """Run a query, and return its outcome.

        Raises:
            QueryTooSlow: The query has reached the time limit.
            QueryTooLarge: The query has reached the memory limit.
            QueryCanceled: `is_canceled` has returned True.
            ProcessEnded: The process was killed, or a defect has ended it.
        """
        limit = settings.QUERY_TIMEOUT_SECONDS
        try:
            send_job(self._connection, job, file)
            self._wait(limit, is_canceled, QueryTooSlow, job.memory)
            return receive_outcome(self._connection)
        except (EOFError, OSError) as failure:
            raise ProcessEnded from failure

    def _wait(
        self, seconds: float, is_canceled: Callable[[], bool], too_late: type[Exception], memory: int | None = None
    ) -> None:
        """Wait until the process has sent something, or has ended.

        Args:
            seconds: How long to wait.
            is_canceled: Returns whether the client has disconnected.
            too_late: The exception to raise after `seconds`.
            memory: The bytes of memory at which to raise QueryTooLarge. None is no limit.
        """
        deadline = time.monotonic() + seconds
        while not self._poll.poll(_WATCH_SECONDS * 1000):
            if is_canceled():
                raise QueryCanceled
            if time.monotonic() > deadline:
                raise too_late
            if memory is not None and self.growth() > memory:
                raise QueryTooLarge

    def growth(self) -> int:
        """Return by how many bytes the memory of the process has grown since its start. Always 0 without /proc."""
        return self._memory() - self._memory_at_start

    def _memory(self) -> int:
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        except OSError:
            return 0
        return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES  # resident memory without mapped files

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


class Pool:
    """The query processes of this web process."""

    def __init__(self) -> None:
        self._idle: list[QueryProcess] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def run(self, job: Job, file: IO[bytes], is_canceled: Callable[[], bool]) -> Outcome:
        """Run a query when a processor is free. Raises what `QueryProcess.run` raises, and NoProcessor."""
        with _processor(is_canceled):
            process = self._take()
            try:
                if process is None:
                    process = QueryProcess()
                    process.await_start(is_canceled)
                outcome = process.run(job, file, is_canceled)
            except BaseException:
                if process is not None:
                    process.end()
                raise
            self._put_back(process, job)
            return outcome

    def _take(self) -> QueryProcess | None:
        """Return a process that has nothing to do, or None."""
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive():
                    return process
                process.end()
        return None

    def _put_back(self, process: QueryProcess, job: Job) -> None:
        """Keep a process for the next query, unless it still holds much of the memory that this query took."""
        if process.growth() > job.memory // 4:
            process.end()
            return
        with self._lock:
            process.idle_since = time.monotonic()
            self._idle.append(process)
            if self._timer is None:
                self._end_later()

    def _end_later(self) -> None:
        self._timer = threading.Timer(_IDLE_SECONDS, self._end_idle)
        self._timer.daemon = True
        self._timer.start()

    def _end_idle(self) -> None:
        """End the processes that have had nothing to do for a minute."""
        with self._lock:
            oldest = time.monotonic() - _IDLE_SECONDS
            for process in [each for each in self._idle if each.idle_since <= oldest]:
                self._idle.remove(process)
                process.end()
            self._timer = None
            if self._idle:
                self._end_later()

    def pids(self) -> list[int]:
        """Return the IDs of the processes that have nothing to do."""
        with self._lock:
            return [process.pid for process in self._idle]

    def end(self) -> None:
        """End all processes that have nothing to do."""
        with self._lock:
            while self._idle:
                self._idle.pop().end()


@contextmanager
def _processor(is_canceled: Callable[[], bool]) -> Iterator[None]:
    """Hold one of the processors that queries may use while the block runs.

    Raises NoProcessor if none becomes free within the time limit of a query.
    """
    deadline = time.monotonic() + settings.QUERY_TIMEOUT_SECONDS
    while (permit := permits.take("processor", len(permits.processors()))) is None:
        if is_canceled():
            raise QueryCanceled
        if time.monotonic() > deadline:
            raise NoProcessor
        time.sleep(_RETRY_SECONDS)
    try:
        yield
    finally:
        permit.release()


POOL = Pool()
