"""The measured systems: four systems that accept the same requests."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.benchmarks import load
from tests.benchmarks.failure import BenchmarkFailed
from tests.benchmarks.load import Load, Running, Target
from tests.benchmarks.payloads import body
from tests.benchmarks.systems.processes import Server, Tree, wait_until

Bodies = Mapping[int, Sequence[Path]]


class System(ABC):
    """A web server that accepts records, and counts them."""

    name: str

    def __init__(self, web: Server, url: str, bodies: Bodies) -> None:
        self.web = web
        self.url = url
        self.bodies = bodies

    @abstractmethod
    def target(self) -> Target:
        """The default target of requests."""

    @abstractmethod
    def accepted(self) -> int:
        """Return how many records the system has ever accepted, according to Redis."""

    @abstractmethod
    def trim(self) -> None:
        """Delete the queue."""

    def send_one(self) -> httpx.Response | None:
        """Send one record. Return None if there is no answer. Raises BenchmarkFailed if the record is refused."""
        target = self.target()
        headers = {"Authorization": f"Bearer {target.token}", "Content-Type": "application/json"}
        try:
            response = httpx.post(self.url + target.path, content=body(1, 0), headers=headers, timeout=60)
        except httpx.TransportError:
            return None
        if response.status_code != 202:
            raise BenchmarkFailed(f"{self.name}: {response.status_code} {response.text[:1000]}")
        return response

    @contextmanager
    def loaded(
        self,
        size: int,
        *,
        connections: int,
        seconds: float,
        targets: Sequence[Target] = (),
        check: bool = False,
        pause_ms: float | None = None,
    ) -> Iterator[Running]:
        """Send requests of `size` records. Raises BenchmarkFailed unless each one was accepted and counted."""
        before = self.accepted()
        to = [Target(each.path + "/batch" * (size > 1), each.token) for each in targets or [self.target()]]
        with load.running(
            self.url, to, self.bodies[size], connections=connections, seconds=seconds, check=check, pause_ms=pause_ms
        ) as running:
            yield running
            seen = running.result()
        self.wait_until_idle()
        counted = self.accepted() - before - running.besides
        # wrk ends when its time is up. It does not see that its last requests are accepted.
        if not seen.requests * size <= counted <= (seen.requests + connections) * size:
            raise BenchmarkFailed(f"{self.name}: {seen.requests} x {size} records answered 202, {counted} queued")

    def wait_until_idle(self) -> None:
        """Wait until the web server is idle: it may still handle wrk's last requests."""
        seen, still = (-1, -1.0), 0

        def at_rest() -> bool:
            nonlocal seen, still
            before, seen = seen, (self.accepted(), self.web.cpu_seconds())
            still = still + 1 if seen[0] == before[0] and seen[1] - before[1] < 0.02 else 0
            return still == 2

        wait_until(at_rest, f"the {self.name}'s web server comes to rest", pause=0.15)

    def measure(
        self, size: int, *, connections: int, seconds: float, targets: Sequence[Target] = (), check: bool = False
    ) -> Load:
        """Measure requests of `size` records."""
        with self.loaded(size, connections=connections, seconds=seconds, targets=targets, check=check) as running:
            return running.result()


class StoringSystem(System):
    """A system that also stores the accepted records, with its own workers."""

    @abstractmethod
    def processes(self) -> Sequence[Tree]:
        """Return the processes of the system, including shared ones."""

    @abstractmethod
    @contextmanager
    def working(self) -> Iterator[None]:
        """Run the system's workers during the block."""

    @abstractmethod
    def queued(self) -> int:
        """Return the number of accepted records that are not stored yet."""

    @abstractmethod
    def stored(self) -> int:
        """Return the number of stored records, according to the system."""

    @abstractmethod
    def readable(self) -> int:
        """Return the number of readable records, by reading all of them."""

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds so far, by running process."""
        return {tree.name: tree.cpu_seconds() for tree in self.processes() if tree.pid is not None}

    def resident_megabytes(self) -> dict[str, float]:
        """Return the resident memory now, by running process."""
        return {tree.name: tree.resident_bytes() / 1e6 for tree in self.processes() if tree.pid is not None}
