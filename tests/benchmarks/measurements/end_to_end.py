"""Measure the time from the first request until all records are readable. Also measure only the drain of a backlog."""

import time
from collections.abc import Sequence
from statistics import median

from tests.benchmarks.measurements.flow import Flow, flow
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, Row, number, paired, times
from tests.benchmarks.systems.processes import wait_until
from tests.benchmarks.systems.product import Product
from tests.benchmarks.systems.stack import Stack

_CONNECTIONS = 16
# Records per request, and connections.
_CASES = ((1000, _CONNECTIONS), (100, _CONNECTIONS), (1, _CONNECTIONS), (1, 64))
# The goals by records per request: how many records/s are stored, and how many times as many as in the baseline.
_TARGETS = {1000: (300_000, 15.0), 100: (200_000, 15.0)}
# A backlog counts as growing only above this share of the accepted records, because it changes with each commit.
_NO_GROWTH = 0.02
# The backlog rises and falls twice a second, so only a long load shows its trend. A load of 4 seconds is measured for 2
# seconds. In this time, a constant backlog may seem to grow by 9 %.
_TIMES_LONGER = {1: 5}  # records per request -> how many times longer the load is
# The baseline needs three times as long to store as to accept, so a short load is enough. With a shorter load, it might
# not answer any batch of 1,000 records.
_MIN_BASELINE_SECONDS = 2.0
_DRAIN_TARGET = 500_000

Flows = dict[str, list[Flow]]


def run(stack: Stack, options: Options, report: Report) -> None:
    """Measure batches and single records: the product and, over 16 connections, also the baseline."""
    with stack.product.standing_by(), stack.baseline.working():
        for size, connections in _CASES:
            flows: Flows = {"product": []}
            for turn in range(options.rounds):
                seconds = options.seconds * 2 * _TIMES_LONGER.get(size, 1)
                flows["product"].append(product_flow(stack, size, seconds, connections))
                if connections == _CONNECTIONS:
                    seconds = max(_MIN_BASELINE_SECONDS, options.seconds)
                    flows.setdefault("baseline", []).append(_baseline_flow(stack, size, seconds))
                latest = "; ".join(f"{name} {number(each[-1].per_second)} records/s" for name, each in flows.items())
                report.progress(f"end to end: {_name(size, connections)}, round {turn + 1}: {latest}")
            report.raw("end-to-end", {"size": size, "connections": connections, "rounds": flows})
            _rows(report, size, connections, flows)


def product_flow(stack: Stack, size: int, seconds: float, connections: int = _CONNECTIONS) -> Flow:
    """Measure the product with requests of `size` records at full rate, into a new table."""
    product = stack.product
    stack.settle()
    product.new_dataset()
    with product.working():
        found = flow(product, size, connections=connections, seconds=seconds)
    product.drop_table()
    return found


def _baseline_flow(stack: Stack, size: int, seconds: float) -> Flow:
    stack.settle()
    return flow(stack.baseline, size, connections=_CONNECTIONS, seconds=seconds)


def _rows(report: Report, size: int, connections: int, flows: Flows) -> None:
    rates = {name: [each.per_second for each in rounds] for name, rounds in flows.items()}
    ratio, target, met = "", "", None
    if "baseline" in rates:
        multiple = paired(rates["product"], rates["baseline"])
        ratio = f"{times(multiple)} baseline"
        if size in _TARGETS:
            least, least_multiple = _TARGETS[size]
            target = f"≥ {least:,}, ≥ {least_multiple:.0f}x baseline"
            met = median(rates["product"]) >= least and multiple >= least_multiple
    report.add(
        Row(
            case=f"end to end: {_name(size, connections)}",
            measure="records/s readable",
            values={name: number(median(rate)) for name, rate in rates.items()},
            ratio=ratio,
            target=target,
            met=met,
        )
    )
    _cost_rows(report, flows)
    if size == 1:
        _backlog_row(report, flows["product"])


def _cost_rows(report: Report, flows: Flows) -> None:
    for process in ("web", "redis", "worker", "upkeep", "beat", "postgres"):
        cost = {name: [each.cpu_per_million().get(process) for each in rounds] for name, rounds in flows.items()}
        known = {name: [value for value in values if value is not None] for name, values in cost.items()}
        values = {name: f"{median(each):.2f}" for name, each in known.items() if each}
        if values:
            report.add(Row(measure=f"CPU-s per million: {process}", values=values))


def _backlog_row(report: Report, flows: Sequence[Flow]) -> None:
    growth = median(each.backlog_growth() for each in flows)
    most = median(max(waiting for _, waiting in each.backlog) for each in flows)
    report.add(
        Row(
            measure="backlog at full rate",
            values={"product": f"{growth:+.1%}, most {number(most)}"},
            ratio="growth, of what is accepted",
            target="does not grow",
            met=growth <= _NO_GROWTH,
        )
    )


def drain(stack: Stack, options: Options, report: Report) -> None:
    """Measure the drain of a backlog that was filled while no worker ran. Nothing else happens meanwhile."""
    rounds = []
    with stack.product.standing_by():
        for turn in range(options.rounds):
            stack.settle()
            stack.product.new_dataset()
            stack.product.fill(options.backlog // 2)
            rounds.append(measure_drain(stack.product))
            stack.product.drop_table()
            report.progress(f"drain, round {turn + 1}: {number(rounds[-1]['per_second'])} records/s")
    report.raw("drain", {"backlog": options.backlog // 2, "rounds": rounds})
    per_core = median(each["per_core_second"] for each in rounds)
    case = f"drain alone, from a backlog of {options.backlog // 2:,}"
    value = number(median(each["per_second"] for each in rounds))
    report.add(Row(case=case, measure="records/s", values={"product": value}))
    report.add(
        Row(
            measure="records per CPU-second of the worker",
            values={"product": number(per_core)},
            target=f"≥ {_DRAIN_TARGET:,}",
            met=per_core >= _DRAIN_TARGET,
        )
    )


def measure_drain(product: Product) -> dict[str, float]:
    """Drain the backlog, and do nothing else. Workers must be ready."""
    records, before, cpu = product.queued(), product.stored(), product.cpu_seconds()["worker"]
    with product.dispatching():
        # The workers were idle: from now on, all their CPU time is for the backlog.
        wait_until(lambda: product.cpu_seconds()["worker"] > cpu + 0.02, "the drain begins", pause=0.01)
        began = time.monotonic()
        wait_until(lambda: product.stored() >= before + records, "the backlog is drained", pause=0.05)
        seconds = time.monotonic() - began
        wait_until(lambda: not product.queued(), "the queue is trimmed")
    worker = product.cpu_seconds()["worker"] - cpu
    return {
        "records": records,
        "seconds": seconds,
        "per_second": records / seconds,
        "worker_cpu_seconds": worker,
        "per_core_second": records / worker,
    }


def _name(size: int, connections: int) -> str:
    return f"{'single records' if size == 1 else f'batches of {size:,}'}, {connections} connections"
