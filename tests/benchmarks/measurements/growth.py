"""Measure whether a record costs more when there are more rows in the table, queued records, keys or datasets."""

import time
from collections.abc import Sequence
from statistics import median

from tests.benchmarks.load import Target
from tests.benchmarks.measurements import growing
from tests.benchmarks.measurements.end_to_end import measure_drain
from tests.benchmarks.measurements.flow import flow
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, Row, number, times
from tests.benchmarks.systems.processes import wait_until
from tests.benchmarks.systems.product import Probe, Product
from tests.benchmarks.systems.stack import Stack

_MOST = 1.3  # the goal: the cost at the largest point, as a multiple of the cost at the smallest point
_CONNECTIONS = 16
_WARM_ROUNDS, _WARM_CONNECTIONS = 7, 64
_ACCEPTED, _ACCEPTED_RATE = "accepted: CPU-µs a record, web + redis", "accepted: records/s"
_STORED, _STORED_RATE = "stored: CPU-µs a record, worker", "stored: records/s"
_COSTS = (_ACCEPTED, _STORED)


class Axis:
    """The measurements along one axis, point by point."""

    def __init__(self, name: str, points: Sequence[int]) -> None:
        self.name = name
        self.points = points
        self.figures: dict[str, dict[int, list[float]]] = {}

    def note(self, measure: str, point: int, value: float) -> None:
        self.figures.setdefault(measure, {}).setdefault(point, []).append(value)

    def note_memory(self, point: int, product: Product) -> None:
        for process, megabytes in product.resident_megabytes().items():
            self.note(f"memory, MB: {process}", point, megabytes)

    def note_accepted(self, point: int, product: Product, targets: Sequence[Target], seconds: float) -> None:
        """Send single records for some seconds, and measure the cost of each in the web processes and Redis."""
        accepted, cpu = product.accepted(), product.cpu_seconds()
        load = product.measure(1, connections=_CONNECTIONS, seconds=seconds, targets=targets)
        now = product.cpu_seconds()
        spent = sum(now[name] - cpu[name] for name in ("web", "redis"))
        self.note(_ACCEPTED, point, spent / (product.accepted() - accepted) * 1e6)
        self.note(_ACCEPTED_RATE, point, load.per_second)

    def note_stored(self, point: int, product: Product, seconds: float) -> None:
        """Send and store records, and measure the cost of each in the worker. The worker must be running."""
        found = flow(product, 1000, connections=_CONNECTIONS, seconds=seconds)
        self.note(_STORED, point, found.cpu_per_million()["worker"])
        self.note(_STORED_RATE, point, found.per_second)

    def note_drained(self, point: int, product: Product) -> None:
        """Drain the backlog, and measure the cost of each record in the worker. The worker must be ready."""
        found = measure_drain(product)
        self.note(_STORED, point, 1e6 / found["per_core_second"])
        self.note(_STORED_RATE, point, found["per_second"])

    def report(self, report: Report) -> None:
        """Add a row for each measure, with its figures from the smallest point to the largest."""
        report.raw("growth", {"axis": self.name, "figures": self.figures})
        case = f"growth: {' · '.join(f'{point:,}' for point in self.points)} {self.name}"
        name = case
        for measure, by_point in sorted(self.figures.items(), key=lambda each: each[0].startswith("memory")):
            medians = [median(by_point[point]) for point in self.points if point in by_point]
            ratio = medians[-1] / medians[0]
            report.add(
                Row(
                    case=case,
                    measure=measure,
                    values={"product": " · ".join(map(number, medians))},
                    ratio=f"{times(ratio)} the smallest's",
                    target=f"≤ {_MOST}x" if measure in _COSTS else "",
                    met=ratio <= _MOST if measure in _COSTS else None,
                )
            )
            report.progress(f"{name}: {measure}: {' · '.join(map(number, medians))}")
            case = ""


def run(stack: Stack, options: Options, report: Report) -> None:
    """Measure along the four axes."""
    stack.settle()
    with stack.product.standing_by():
        for axis in (_rows_in_the_table, _records_in_the_backlog, _keys, _datasets):
            stack.settle()
            axis(stack, options, report).report(report)


def _rows_in_the_table(stack: Stack, options: Options, report: Report) -> Axis:
    product, axis = stack.product, Axis("rows in the table", options.rows)
    sample = growing.sample(product, max(options.rows))
    tables = {count: growing.make_table(product, sample, count) for count in options.rows}
    report.progress(f"growth: tables of {' · '.join(f'{count:,}' for count in options.rows)} rows are made")
    for _ in range(options.rounds):
        for count, dataset in tables.items():
            stack.settle()
            product.use(dataset)
            axis.note_accepted(count, product, (), options.seconds)
    stack.settle()
    with product.working():
        for count, dataset in tables.items():
            product.use(dataset)
            # The first drain tells Redis how many records the table already holds, and Redis counts them as accepted.
            Probe(product).wait()
            axis.note_stored(count, product, options.seconds * 2)
            axis.note_memory(count, product)
    for dataset in tables.values():
        product.use(dataset)
        product.drop_table()
    return axis


def _records_in_the_backlog(stack: Stack, options: Options, report: Report) -> Axis:
    """Measure a small and a full backlog. The small backlog is a few commits, as when workers are fast enough."""
    points = (options.backlog // 10, options.backlog)
    product, axis = stack.product, Axis("records in the backlog", points)
    for count in points:
        stack.settle()
        product.new_dataset()
        product.fill(count)
        for _ in range(options.rounds):
            axis.note_accepted(count, product, (), options.seconds)
        axis.note_memory(count, product)
        axis.note_drained(count, product)
        product.drop_table()
    return axis


def _keys(stack: Stack, options: Options, report: Report) -> Axis:
    """Measure requests with all of the keys in turn."""
    product, axis = stack.product, Axis("keys in use", options.keys)
    product.new_dataset()
    tokens = growing.make_keys(product, max(options.keys))
    report.progress(f"growth: {max(options.keys):,} keys are made")
    path = product.target().path
    targets = {count: [Target(path, token) for token in tokens[:count]] for count in options.keys}
    for count in options.keys:
        _warm(product, targets[count])
    for _ in range(options.rounds):
        for count in options.keys:
            stack.settle()
            axis.note_accepted(count, product, targets[count], options.seconds)
    for count in options.keys:
        stack.settle()
        while product.queued() < options.backlog // 50:  # enough for a few commits that are not small
            product.measure(1, connections=_CONNECTIONS, seconds=options.seconds, targets=targets[count])
        axis.note_drained(count, product)
        axis.note_memory(count, product)
    product.drop_table()
    return axis


def _datasets(stack: Stack, options: Options, report: Report) -> Axis:
    """Measure requests to all of the datasets in turn, and the drain of a backlog that is spread over all of them."""
    product, axis = stack.product, Axis("datasets in use", options.datasets)
    made = growing.make_datasets(product, max(options.datasets))
    report.progress(f"growth: {max(options.datasets):,} datasets are made, each with a table")
    product.new_dataset()
    targets = {count: growing.targets_of(product, made[:count]) for count in options.datasets}
    for count in options.datasets:
        _warm(product, targets[count])
    for _ in range(options.rounds):
        for count in options.datasets:
            stack.settle()
            axis.note_accepted(count, product, targets[count], options.seconds)
    for count in options.datasets:
        stack.settle()
        _note_spread(axis, count, product, targets[count], options)
    return axis


def _note_spread(axis: Axis, point: int, product: Product, targets: Sequence[Target], options: Options) -> None:
    """Queue a backlog over all targets, and measure the cost of each record in the worker. The worker must be ready."""
    records = 0
    while records < options.backlog // 5:
        before = product.accepted()
        product.measure(100, connections=_CONNECTIONS, seconds=options.seconds, targets=targets)
        records += product.accepted() - before
    full, cpu = product.queued_bytes(), product.cpu_seconds()["worker"]
    with product.dispatching():
        wait_until(lambda: product.cpu_seconds()["worker"] > cpu + 0.02, "the drain begins", pause=0.01)
        began = time.monotonic()
        while product.queued_bytes() and time.monotonic() - began < options.seconds * 5:
            time.sleep(0.05)
        seconds, drained = time.monotonic() - began, (1 - product.queued_bytes() / full) * records
        axis.note(_STORED, point, (product.cpu_seconds()["worker"] - cpu) / drained * 1e6)
        axis.note(_STORED_RATE, point, drained / seconds)
        axis.note_memory(point, product)


def _warm(product: Product, targets: Sequence[Target]) -> None:
    """Let every web process load the targets. A request reaches one process only, so this needs several rounds."""
    enough = product.accepted() + _WARM_ROUNDS * len(targets)
    while product.accepted() < enough:
        seconds = 1 + len(targets) / 4000
        product.measure(1, connections=_WARM_CONNECTIONS, seconds=seconds, targets=targets)
