"""Start Celery processes as the service does, with the test broker."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from config.celery import DRAIN_QUEUE


@contextmanager
def worker(
    application: str, log: Path, queue: str = DRAIN_QUEUE, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker."""
    options = ("worker", "-Q", queue, "-c", "1", "--without-gossip", "--without-mingle")
    with _process(application, options, log, environment or {}) as process:
        yield process


@contextmanager
def beat(
    log: Path, environment: Mapping[str, str] | None = None, application: str = "config"
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run beat."""
    with _process(application, ("beat", "-S", "config.celery:BoundedScheduler"), log, environment or {}) as process:
        yield process


@contextmanager
def _process(
    application: str, options: tuple[str, ...], log: Path, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", application, *options],
            env={**os.environ, "C_FORCE_ROOT": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()  # not SIGKILL: the process must end its children, too
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
