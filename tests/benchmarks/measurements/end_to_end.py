"""Measure the way from the first request until all records are readable, and the drain alone from a full backlog."""

import time
from statistics import median

from tests.benchmarks.measurements.flow import Flow, flow
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, Row, number, paired, times
from tests.benchmarks.systems.processes import wait_until
from tests.benchmarks.systems.product import Product
from tests.benchmarks.systems.stack import Stack

_CONNECTIONS = 16
# The goals by records per request: records/s stored, and multiple of the baseline's.
_TARGETS = {1000: (300_000, 15.0), 100: (200_000, 15.0)}
# A backlog counts as growing only above this share of the accepted records, because it swings with each commit.
_NO_GROWTH = 0.02
# The backlog rises and falls twice a second, so only a long load shows its trend. Within the 2 measured seconds of a
# load of 4 seconds, a constant backlog may seem to grow by 9 %.
_TIMES_LONGER = {1: 5}  # by records a request
_DRAIN_TARGET = 500_000

Flows = dict[str, list[Flow]]


def run(stack: Stack, options: Options, report: Report) -> None:
    """Measure batches of 1,000 and 100, and single records: the product and the baseline in turn."""
    with stack.product.standing_by(), stack.baseline.working():
        for size in (1000, 100, 1):
            flows: Flows = {"product": [], "baseline": []}
            for turn in range(options.rounds):
                flows["product"].append(product_flow(stack, size, options.seconds * 2 * _TIMES_LONGER.get(size, 1)))
                flows["baseline"].append(_baseline_flow(stack, size, options.seconds * 2))
                latest = "; ".join(f"{name} {number(each[-1].per_second)} records/s" for name, each in flows.items())
                report.progress(f"end to end: {_name(size)}, round {turn + 1}: {latest}")
            report.raw("end-to-end", {"size": size, "rounds": flows})
            _rows(report, size, flows)


def product_flow(stack: Stack, size: int, seconds: float) -> Flow:
    """Measure the product with requests of `size` records at full rate, into a new table."""
    product = stack.product
    stack.settle()
    product.new_dataset()
    with product.working():
        found = flow(product, size, connections=_CONNECTIONS, seconds=seconds)
    product.drop_table()
    return found


def _baseline_flow(stack: Stack, size: int, seconds: float) -> Flow:
    stack.settle()
    return flow(stack.baseline, size, connections=_CONNECTIONS, seconds=seconds)


def _rows(report: Report, size: int, flows: Flows) -> None:
    rates = {name: [each.per_second for each in rounds] for name, rounds in flows.items()}
    multiple = paired(rates["product"], rates["baseline"])
    least, least_multiple = _TARGETS.get(size, (None, None))
    report.add(
        Row(
            case=f"end to end: {_name(size)}",
            measure="records/s readable",
            values={name: number(median(rate)) for name, rate in rates.items()},
            ratio=f"{times(multiple)} baseline",
            target=f"≥ {least:,}, ≥ {least_multiple:.0f}x" if least and least_multiple else "",
            met=median(rates["product"]) >= least and multiple >= least_multiple if least and least_multiple else None,
        )
    )
    for process in ("web", "redis", "worker", "upkeep", "beat", "postgres"):
        cost = {name: [each.cpu_per_million().get(process) for each in rounds] for name, rounds in flows.items()}
        known = {name: [value for value in values if value is not None] for name, values in cost.items()}
        values = {name: f"{median(each):.2f}" for name, each in known.items() if each}
        report.add(Row(measure=f"CPU-s per million: {process}", values=values))
    if size == 1:
        growth = median(each.backlog_growth() for each in flows["product"])
        most = median(max(waiting for _, waiting in each.backlog) for each in flows["product"])
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
    """Measure the drain of a backlog that was filled while no worker ran, with nothing else going on."""
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


def _name(size: int) -> str:
    return "single records" if size == 1 else f"batches of {size:,}"
