"""Measure records from the first request until the last record can be read."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.failure import BenchmarkFailed
from tests.benchmarks.load import Load, Target
from tests.benchmarks.systems.processes import PATIENCE_SECONDS
from tests.benchmarks.systems.system import StoringSystem

# Seconds between two reads of the backlog during the load, and of the stored records after it.
_SAMPLE, _LOOK = 0.13, 0.05  # 0.13 does not divide the half second between two dispatches


@dataclass(frozen=True, slots=True)
class Flow:
    """The records that went through a system, and their cost."""

    load: Load
    records: int  # accepted, stored and read back
    seconds: float  # from the first request until the last record could be read
    backlog: list[tuple[float, int]]  # during the load: seconds, queued records
    cpu_seconds: dict[str, float]  # by process
    resident_megabytes: dict[str, float]  # by process, at the end

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    def cpu_per_million(self) -> dict[str, float]:
        """Return the CPU seconds per million records, by process."""
        return {name: seconds / self.records * 1e6 for name, seconds in self.cpu_seconds.items()}

    def backlog_growth(self) -> float:
        """Return how fast the backlog grows in the second half of the load, as a share of the accepted records."""
        late = self.backlog[len(self.backlog) // 2 :]
        if len(late) < 2:
            return 0.0
        mean_at = sum(at for at, _ in late) / len(late)
        mean = sum(waiting for _, waiting in late) / len(late)
        slope = sum((at - mean_at) * (waiting - mean) for at, waiting in late)
        slope /= sum((at - mean_at) ** 2 for at, _ in late)
        return slope / (self.records / self.load.seconds)


def flow(system: StoringSystem, size: int, *, connections: int, seconds: float, targets: Sequence[Target] = ()) -> Flow:
    """Send for some seconds, and wait until everything is stored. Workers must run, and the queue must be empty."""
    accepted, stored, cpu = system.accepted(), system.stored(), system.cpu_seconds()
    began = time.monotonic()
    backlog: list[tuple[float, int]] = []
    with system.loaded(size, connections=connections, seconds=seconds, targets=targets) as running:
        while not running.ended():
            backlog.append((time.monotonic() - began, system.queued()))
            time.sleep(_SAMPLE)
        ended = _all_stored(system, accepted, stored)
        system.wait_until_idle()
        if system.accepted() - accepted != system.stored() - stored:  # a request was accepted after wrk had ended
            ended = _all_stored(system, accepted, stored)
    records = system.accepted() - accepted
    spent = {name: now - cpu.get(name, 0.0) for name, now in system.cpu_seconds().items()}
    if system.readable() - stored != records:
        raise BenchmarkFailed(f"{system.name}: {records} accepted, {system.readable() - stored} can be read")
    return Flow(running.result(), records, ended - began, backlog, spent, system.resident_megabytes())


def _all_stored(system: StoringSystem, accepted: int, stored: int) -> float:
    """Wait until all accepted records are stored. Return when that was, by the monotonic clock."""
    latest, progress = -1, time.monotonic()
    while True:
        moment = time.monotonic()
        if not system.queued():
            now_stored = system.stored() - stored
            if now_stored == system.accepted() - accepted:
                return moment
            waits = system.accepted() - accepted - now_stored
        else:
            waits = system.queued()
        if waits != latest:
            latest, progress = waits, moment
        if moment - progress > PATIENCE_SECONDS:
            raise BenchmarkFailed(f"{system.name}: {waits} records are not stored, and storing has stopped")
        time.sleep(_LOOK)
