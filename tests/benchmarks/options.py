"""The options of a run: what it measures, and for how long."""

from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

CASES = ("accept", "end-to-end", "drain", "freshness", "growth", "schemas")


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    cases: tuple[str, ...]
    rounds: int
    seconds: float  # of one measurement of acceptance; other measurements take longer
    web: int
    node: int
    appendfsync: str | None  # None: the default of `up`
    backlog: int  # records
    datasets: tuple[int, ...]
    keys: tuple[int, ...]
    rows: tuple[int, ...]
    json: Path | None
    keep: bool


def parse() -> Options:
    """Read the command line."""
    parser = ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure the product and three references in turn, on this machine, and print one table.",
    )
    add = parser.add_argument
    add(
        "--cases",
        nargs="+",
        choices=CASES,
        default=list(CASES),
        metavar="CASE",
        help=f"which to measure: {', '.join(CASES)} (default: all)",
    )
    add("--quick", action="store_true", help="one short round of everything with less data, to see that it works")
    add("--rounds", type=int, help="rounds of each measurement and its references in turn (default: 3; quick: 1)")
    add("--seconds", type=float, help="seconds of one measurement (default: 2; quick: 1)")
    add("--web", type=int, default=2, help="web processes of the product, the ceiling and the baseline (default: 2)")
    add("--node", type=int, help="processes of the Node service (default: as many as --web)")
    add(
        "--appendfsync",
        choices=("always", "everysec", "no"),
        help="appendfsync of Redis for all systems (default: that of `up`)",
    )
    add("--backlog", type=int, help="records in a full backlog (default: 5 million; quick: 1 million)")
    add("--datasets", type=int, nargs="+", help="growth: numbers of datasets (default: 1 100 10000; quick: 1 10 100)")
    add("--keys", type=int, nargs="+", help="growth: numbers of keys (default: 1 100000; quick: 1 1000)")
    add(
        "--rows",
        type=int,
        nargs="+",
        help="growth: rows in a table (default: 1000 1000000 50000000; quick: up to 1 million)",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures to this file")
    add("--keep", action="store_true", help="keep the temporary directory (logs, data)")
    given = parser.parse_args()
    quick = given.quick
    return Options(
        cases=tuple(case for case in CASES if case in given.cases),
        rounds=given.rounds or (1 if quick else 3),
        seconds=given.seconds or (1 if quick else 2),
        web=given.web,
        node=given.node or given.web,
        appendfsync=given.appendfsync,
        backlog=given.backlog or (1_000_000 if quick else 5_000_000),
        datasets=tuple(given.datasets or ((1, 10, 100) if quick else (1, 100, 10_000))),
        keys=tuple(given.keys or ((1, 1_000) if quick else (1, 100_000))),
        rows=tuple(given.rows or ((1_000, 100_000, 1_000_000) if quick else (1_000, 1_000_000, 50_000_000))),
        json=given.json,
        keep=given.keep,
    )
