"""Records on their way from the first request until the last of them can be read."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.failure import BenchmarkFailed
from tests.benchmarks.load import Load, Target
from tests.benchmarks.processes import PATIENCE_SECONDS
from tests.benchmarks.system import StoringSystem

# How often it is asked, in seconds: how much waits during the load, and whether all is stored after it.
_SAMPLE, _LOOK = 0.13, 0.05  # the first out of step with dispatch, twice a second


@dataclass(frozen=True, slots=True)
class Flow:
    """What went through a system, and what it cost."""

    load: Load
    records: int  # all of them accepted, stored, and read back
    seconds: float  # from the first request until the last record could be read
    backlog: list[tuple[float, int]]  # during the load: seconds, records that wait
    cpu_seconds: dict[str, float]  # by process
    resident_megabytes: dict[str, float]  # by process, at the end

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    def cpu_per_million(self) -> dict[str, float]:
        """CPU-seconds per million records, by process."""
        return {name: seconds / self.records * 1e6 for name, seconds in self.cpu_seconds.items()}

    def backlog_growth(self) -> float:
        """What is added to the backlog, as a share of what is accepted: the trend of the load's second half."""
        late = self.backlog[len(self.backlog) // 2 :]
        if len(late) < 2:
            return 0.0
        mean_at = sum(at for at, _ in late) / len(late)
        mean = sum(waiting for _, waiting in late) / len(late)
        slope = sum((at - mean_at) * (waiting - mean) for at, waiting in late)
        slope /= sum((at - mean_at) ** 2 for at, _ in late)
        return slope / (self.records / self.load.seconds)


def flow(system: StoringSystem, size: int, *, connections: int, seconds: float, targets: Sequence[Target] = ()) -> Flow:
    """Send for so long, and wait until everything is stored. Its workers must be at work, its queue empty."""
    accepted, stored, cpu = system.accepted(), system.stored(), system.cpu_seconds()
    began = time.monotonic()
    backlog: list[tuple[float, int]] = []
    with system.loaded(size, connections=connections, seconds=seconds, targets=targets) as running:
        while not running.ended():
            backlog.append((time.monotonic() - began, system.queued()))
            time.sleep(_SAMPLE)
        ended = _all_stored(system, accepted, stored)
        system.wait_until_idle()
        if system.accepted() - accepted != system.stored() - stored:  # a straggler, accepted after wrk had left
            ended = _all_stored(system, accepted, stored)
    records = system.accepted() - accepted
    spent = {name: now - cpu.get(name, 0.0) for name, now in system.cpu_seconds().items()}
    if system.readable() - stored != records:
        raise BenchmarkFailed(f"{system.name}: {records} accepted, {system.readable() - stored} can be read")
    return Flow(running.result(), records, ended - began, backlog, spent, system.resident_megabytes())


def _all_stored(system: StoringSystem, accepted: int, stored: int) -> float:
    """Wait until as much is stored as was accepted; when that was, by the monotonic clock."""
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
            raise BenchmarkFailed(f"{system.name}: {waits} records are not stored, and it does not go on")
        time.sleep(_LOOK)
