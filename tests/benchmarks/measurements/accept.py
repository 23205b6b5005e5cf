"""Measure accepted requests: the product, the ceiling and the baseline in turn, with no worker running."""

from collections.abc import Sequence
from statistics import median

from tests.benchmarks.options import Options
from tests.benchmarks.payloads import SIZES
from tests.benchmarks.report import Report, Row, ms, number, paired, times
from tests.benchmarks.systems.stack import Stack
from tests.benchmarks.systems.system import System

CONNECTIONS = (16, 1, 64)
# The goals at 16 connections, by records per request: share of the ceiling's requests/s, multiple of the baseline's.
_TARGETS = {1: (0.60, 15.0), 100: (0.85, 25.0), 1000: (0.95, 35.0)}
_MAX_P99 = 2.0  # times the ceiling's, for single records at 16 connections

_LONGER = 2.5

Rounds = dict[str, list[dict[str, float]]]


def run(stack: Stack, options: Options, report: Report) -> None:
    """Measure all sizes of request, at 1, 16 and 64 connections."""
    systems: tuple[System, ...] = (stack.product, stack.ceiling, stack.baseline)
    for size in SIZES:
        for system in systems:
            # Warm up, and check each answer. The measured rounds only count refusals, which is faster for wrk.
            system.measure(size, connections=16, seconds=1, check=True)
        for connections in CONNECTIONS:
            rounds: Rounds = {system.name: [] for system in systems}
            for turn in range(options.rounds):
                for system in systems[turn % 3 :] + systems[: turn % 3]:
                    rounds[system.name].append(_measure(stack, system, size, connections, options.seconds))
                latest = "; ".join(f"{name} {number(each[-1]['per_second'])}/s" for name, each in rounds.items())
                report.progress(f"accept: {_name(size)}, {connections} connections, round {turn + 1}: {latest}")
            report.raw("accept", {"size": size, "connections": connections, "rounds": rounds})
            _rows(report, size, connections, rounds)


def _measure(stack: Stack, system: System, size: int, connections: int, seconds: float) -> dict[str, float]:
    stack.settle()
    if system is stack.baseline and size == 1000:
        seconds *= _LONGER  # it answers so few that requests in progress at the end would matter
    load = system.measure(size, connections=connections, seconds=seconds)
    return {"per_second": load.per_second, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms, "most_ms": load.most_ms}


def _rows(report: Report, size: int, connections: int, rounds: Rounds) -> None:
    of_ceiling = paired(_values(rounds, "product", "per_second"), _values(rounds, "ceiling", "per_second"))
    of_baseline = paired(_values(rounds, "product", "per_second"), _values(rounds, "baseline", "per_second"))
    p99 = paired(_values(rounds, "product", "p99_ms"), _values(rounds, "ceiling", "p99_ms"))
    share, multiple = _TARGETS[size] if connections == 16 else (None, None)
    report.add(
        Row(
            case=f"accept: {_name(size)}, {connections} conn.",
            measure="requests/s",
            values={name: number(median(_values(rounds, name, "per_second"))) for name in rounds},
            ratio=f"{of_ceiling:.0%} of ceiling, {times(of_baseline)} baseline",
            target=f"≥ {share:.0%}, ≥ {multiple:.0f}x" if share and multiple else "",
            met=of_ceiling >= share and of_baseline >= multiple if share and multiple else None,
        )
    )
    asked = size == 1 and connections == 16
    report.add(
        Row(
            measure="p50 / p99 ms",
            values={
                name: f"{ms(median(_values(rounds, name, 'p50_ms')))} / {ms(median(_values(rounds, name, 'p99_ms')))}"
                for name in rounds
            },
            ratio=f"p99 {times(p99)} ceiling",
            target=f"p99 ≤ {_MAX_P99:.0f}x" if asked else "",
            met=p99 <= _MAX_P99 if asked else None,
        )
    )


def _values(rounds: Rounds, name: str, measure: str) -> Sequence[float]:
    return [each[measure] for each in rounds[name]]


def _name(size: int) -> str:
    return "1 record" if size == 1 else f"batch of {size:,}"
