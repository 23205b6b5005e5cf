"""One run: start everything, measure each case, stop everything, and print the result."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from config.common import redis
from config.common.env import BASE_DIR
from tests.benchmarks.failure import BenchmarkFailed
from tests.benchmarks.measurements import accept, end_to_end, freshness, growth, schemas
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report
from tests.benchmarks.systems.stack import Stack, started

_CASES: dict[str, Callable[[Stack, Options, Report], None]] = {
    "accept": accept.run,
    "end-to-end": end_to_end.run,
    "drain": end_to_end.drain,
    "freshness": freshness.run,
    "growth": growth.run,
    "schemas": schemas.run,
}


def run(root: Path, options: Options) -> int:
    """Run the benchmark. Return the exit code: 1 if the figures are worthless, else 0."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    report = Report(console)
    failure: str | None = None
    conditions = ""
    try:
        with started(root, options) as stack:
            conditions = _conditions(options)
            try:
                for case in options.cases:
                    _CASES[case](stack, options, report)
            finally:
                report.progress("stopping everything")
                # From here on ignore the signal, so that everything is stopped completely.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
    except BenchmarkFailed as reason:
        failure = str(reason)
    except KeyboardInterrupt:
        failure = "interrupted"
    report.print(conditions)
    if options.json is not None:
        report.save(options.json, {name: str(value) for name, value in vars(options).items()})
    if failure is None:
        return 0
    console.print(f"[bold red]FAILED[/bold red]: {failure}", highlight=False)
    for log in sorted((root / "logs").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-10:]
        if lines:
            console.print(f"-- {log.name}", *lines, sep="\n", highlight=False, markup=False)
    return 1


def _conditions(options: Options) -> str:
    """Return a sentence that says what was measured, and where."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=BASE_DIR, capture_output=True, text=True)
    sync = redis.client().config_get("appendfsync")["appendfsync"]
    return (
        f"Commit {commit.stdout.strip() or 'unknown'}, {datetime.now(UTC):%Y-%m-%d}. {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, Node.js {node}. `appendfsync {sync}`. {options.web} web processes, "
        f"{options.node} of the Node service. Medians, and medians of the rounds' ratios; rounds: {options.rounds}, "
        f"each of {options.seconds:g} s."
    )
