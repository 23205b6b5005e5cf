"""Measure an honest client alone, then together with a crowd of other clients, and repeat this."""

import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.load import Load, Target, running
from tests.support.sending.connection import TEXT
from tests.support.tools import executable

# By default, the crowd is small enough for CI. This command makes the crowd ten times as large:
# CROWD=10 .venv/bin/python -m pytest tests/abuse/crowds -s
TIMES = int(os.environ.get("CROWD", "1"))
ROUNDS = 3
# The share of its rate that an honest client must keep, and the time that other programs may add to its p99. The small
# crowd runs together with the whole suite. So only the large crowd, on an idle machine, shows what we promise.
KEPT_SHARE = 0.9 if TIMES > 1 else 0.7
OTHERS_MS = 20 if TIMES > 1 else 250


class Medians(NamedTuple):
    """The medians of several measurements."""

    per_second: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.per_second:.0f}/s, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"


def medians(loads: Sequence[Load]) -> Medians:
    return Medians(*(statistics.median(getattr(load, name) for load in loads) for name in Medians._fields))


def send(url: str, target: Target, folder: Path, *, connections: int, seconds: float, pause_ms: float | None) -> Load:
    """Send single records with wrk. Each connection pauses for `pause_ms` after an answer, or not at all with None."""
    executable("wrk")
    body = folder / "record.json"
    body.write_bytes(TEXT)
    with running(url, [target], [body], connections=connections, seconds=seconds, pause_ms=pause_ms) as load:
        return load.result()


def in_turn(
    measure: Callable[[], Load], crowd: Callable[[], AbstractContextManager[object]]
) -> tuple[Medians, Medians]:
    """Measure alone, then with a crowd, and repeat this, because other programs also run. Return both medians."""
    alone, crowded = [], []
    for _ in range(ROUNDS):
        alone.append(measure())
        with crowd():
            crowded.append(measure())
    return medians(alone), medians(crowded)
