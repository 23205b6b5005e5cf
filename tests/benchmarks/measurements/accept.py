"""Measure accepted requests: the product and its references in turn, with no worker running."""

from collections.abc import Sequence
from statistics import median

from tests.benchmarks.options import Options
from tests.benchmarks.payloads import SIZES
from tests.benchmarks.report import Report, Row, ms, number, paired, times
from tests.benchmarks.systems.stack import Stack
from tests.benchmarks.systems.system import System

CONNECTIONS = (16, 64, 256, 1000)
# More connections would not make the baseline faster, and 1,000 connections would wait longer than wrk does.
_BASELINE_CONNECTIONS = 16
# The goals at 16 connections, by records per request. The first number is a share of the ceiling's requests/s. The
# second number is a multiple of the baseline's requests/s.
_TARGETS = {1: (0.60, 15.0), 100: (0.85, 25.0), 1000: (0.95, 35.0)}
# The goals for the p99 of single records: at 16 connections, as a multiple of the ceiling's p99; at 1,000 connections,
# in milliseconds.
_MAX_P99 = 2.0
_MAX_P99_MS = 150.0
# The goal for 1,000 connections: the share of the requests/s at 64 connections that the product keeps.
_MIN_KEPT = 0.90

_WARM_UP_SECONDS = 2
# A measurement is long enough for `_ANSWERS` answers on each connection, but at most `_MAX_LONGER` times as long as
# usual. In a shorter one, the requests in progress at its beginning and its end would change the result.
_ANSWERS = 10
_MAX_LONGER = 5

Rounds = dict[str, list[dict[str, float]]]


def run(stack: Stack, options: Options, report: Report) -> None:
    """Measure all sizes of request, over few and many connections."""
    for size in SIZES:
        # Warm up, and check each answer. In the measured rounds, wrk only counts refusals, because this is faster.
        rates = {
            system.name: system.measure(size, connections=16, seconds=_WARM_UP_SECONDS, check=True).per_second
            for system in stack.systems
        }
        found: dict[int, Rounds] = {}
        for connections in CONNECTIONS:
            systems = [
                system
                for system in stack.systems
                if system is not stack.baseline or connections == _BASELINE_CONNECTIONS
            ]
            rounds = found[connections] = {system.name: [] for system in systems}
            for turn in range(options.rounds):
                first = turn % len(systems)
                for system in systems[first:] + systems[:first]:
                    seconds = _seconds(options.seconds, connections, rates[system.name])
                    rounds[system.name].append(_measure(stack, system, size, connections, seconds))
                latest = "; ".join(f"{name} {number(each[-1]['per_second'])}/s" for name, each in rounds.items())
                report.progress(f"accept: {_name(size)}, {connections:,} connections, round {turn + 1}: {latest}")
            report.raw("accept", {"size": size, "connections": connections, "rounds": rounds})
            _rows(report, size, connections, rounds)
        _growth(report, size, found)


def _seconds(usual: float, connections: int, rate: float) -> float:
    return min(max(usual, _ANSWERS * connections / rate), usual * _MAX_LONGER)


def _measure(stack: Stack, system: System, size: int, connections: int, seconds: float) -> dict[str, float]:
    stack.settle()
    load = system.measure(size, connections=connections, seconds=seconds)
    return {"per_second": load.per_second, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms, "most_ms": load.most_ms}


def _rows(report: Report, size: int, connections: int, rounds: Rounds) -> None:
    rates = {name: _values(rounds, name, "per_second") for name in rounds}
    of = {name: paired(rates["product"], rates[name]) for name in rounds if name != "product"}
    ratios = [f"{of['ceiling']:.0%} of ceiling", f"{times(of['node'])} Node"]
    targets, met = ["> 1x Node"], of["node"] > 1
    if connections == _BASELINE_CONNECTIONS:
        share, multiple = _TARGETS[size]
        ratios.append(f"{times(of['baseline'])} baseline")
        targets += [f"≥ {share:.0%} of ceiling", f"≥ {multiple:.0f}x baseline"]
        met = met and of["ceiling"] >= share and of["baseline"] >= multiple
    report.add(
        Row(
            case=f"accept: {_name(size)}, {connections:,} connections",
            measure="requests/s",
            values={name: number(median(each)) for name, each in rates.items()},
            ratio=", ".join(ratios),
            target=", ".join(targets),
            met=met,
        )
    )
    _latency_row(report, size, connections, rounds)


def _latency_row(report: Report, size: int, connections: int, rounds: Rounds) -> None:
    p50 = {name: median(_values(rounds, name, "p50_ms")) for name in rounds}
    p99 = {name: median(_values(rounds, name, "p99_ms")) for name in rounds}
    of_ceiling = paired(_values(rounds, "product", "p99_ms"), _values(rounds, "ceiling", "p99_ms"))
    target, met = "", None
    if size == 1 and connections == min(CONNECTIONS):
        target, met = f"p99 ≤ {_MAX_P99:.0f}x ceiling", of_ceiling <= _MAX_P99
    elif size == 1 and connections == max(CONNECTIONS):
        target, met = f"p99 ≤ {_MAX_P99_MS:.0f} ms", p99["product"] <= _MAX_P99_MS
    report.add(
        Row(
            measure="p50 / p99, ms",
            values={name: f"{ms(p50[name])} / {ms(p99[name])}" for name in rounds},
            ratio=f"p99 {times(of_ceiling)} ceiling",
            target=target,
            met=met,
        )
    )


def _growth(report: Report, size: int, found: dict[int, Rounds]) -> None:
    """Compare the rates over the most connections with the rates over 64 connections."""
    few, many = 64, max(found)
    kept = {
        name: median(_values(found[many], name, "per_second")) / median(_values(found[few], name, "per_second"))
        for name in found[many]
    }
    asked = size == 1
    report.add(
        Row(
            measure=f"requests/s, from {few} to {many:,} connections",
            values={name: f"{each - 1:+.0%}" for name, each in kept.items()},
            target=f"≥ {_MIN_KEPT - 1:+.0%}" if asked else "",
            met=kept["product"] >= _MIN_KEPT if asked else None,
        )
    )


def _values(rounds: Rounds, name: str, measure: str) -> Sequence[float]:
    return [each[measure] for each in rounds[name]]


def _name(size: int) -> str:
    return "1 record" if size == 1 else f"batch of {size:,}"
