"""Measure the time from the 202 until a record is readable: without other load, and at half of the sustained rate."""

import random
import time
from collections import deque
from statistics import median, quantiles

from tests.benchmarks.failure import BenchmarkFailed
from tests.benchmarks.load import Running
from tests.benchmarks.measurements.end_to_end import product_flow
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, Row
from tests.benchmarks.systems.processes import PATIENCE_SECONDS
from tests.benchmarks.systems.product import Probe, Product
from tests.benchmarks.systems.stack import Stack

# There are many connections, each with long pauses, so that the time of an answer hardly affects the rate.
_CONNECTIONS = 64
_MAX_P50, _MAX_P99 = 1.0, 2.0
# Seconds between two records, and between two reads of the table.
_EVERY, _LOOK = 0.1, 0.01


def run(stack: Stack, options: Options, report: Report) -> None:
    """Measure when idle, and at half of the rate that was stored end to end, with batches and single records."""
    product = stack.product
    seconds = options.seconds * 5
    stack.settle()
    product.new_dataset()
    with product.working():
        _report(report, "idle", _probed(product, seconds, None), asked=False)
    product.drop_table()
    for size, name in ((1000, "batches of 1,000"), (1, "single records")):
        sustained = _sustained(stack, options, report, size)
        stack.settle()
        product.new_dataset()
        pause_ms = _CONNECTIONS / (sustained / 2 / size) * 1000
        with (
            product.working(),
            product.loaded(size, connections=_CONNECTIONS, seconds=seconds, pause_ms=pause_ms) as running,
        ):
            found = _probed(product, seconds * 0.9, running)
            share = running.result().per_second * size / sustained
        product.drop_table()
        _report(report, f"at {share:.0%} of the sustained rate, {name}", found, asked=True)


def _sustained(stack: Stack, options: Options, report: Report, size: int) -> float:
    """Return the records/s that are stored at full rate. Measure it now unless this run has done so."""
    for found in report.of("end-to-end"):
        if found["size"] == size:
            rates: list[float] = [each.per_second for each in found["rounds"]["product"]]
            return median(rates)
    return product_flow(stack, size, options.seconds * 2).per_second


def _probed(product: Product, seconds: float, running: Running | None) -> list[float]:
    """Send single records with pauses. Return the seconds from each 202 until the record is in the table."""
    probe = Probe(product)
    waiting: deque[tuple[float, int]] = deque()
    found: list[float] = []
    due = time.monotonic()
    end = due + seconds
    while waiting or due < end:
        if due <= min(time.monotonic(), end):
            waiting.append(probe.send())
            if running is not None:
                running.besides += 1
            due += _EVERY * random.uniform(0.5, 1.5)  # random, so as not to follow the rhythm of the service
        position, moment = product.position(), time.monotonic()
        while waiting and waiting[0][1] <= position:
            found.append(moment - waiting.popleft()[0])
        if waiting and moment - waiting[0][0] > PATIENCE_SECONDS:
            raise BenchmarkFailed("a record was accepted and is not stored")
        time.sleep(_LOOK)
    return found


def _report(report: Report, name: str, found: list[float], *, asked: bool) -> None:
    p50, p99 = median(found), quantiles(found, n=100)[98]
    report.raw("freshness", {"load": name, "seconds": found})
    report.progress(f"freshness {name}: p50 {p50:.2f} s, p99 {p99:.2f} s of {len(found)}")
    report.add(
        Row(
            case=f"freshness: {name}",
            measure="s from 202 to readable, p50 / p99",
            values={"product": f"{p50:.2f} / {p99:.2f}"},
            target=f"≤ {_MAX_P50:.0f} / ≤ {_MAX_P99:.0f}" if asked else "",
            met=p50 <= _MAX_P50 and p99 <= _MAX_P99 if asked else None,
        )
    )
