"""What is measured, and what it is measured against: three systems that accept the same requests."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.benchmarks import load
from tests.benchmarks.failure import BenchmarkFailed
from tests.benchmarks.load import Load, Running, Target
from tests.benchmarks.payloads import body
from tests.benchmarks.processes import Server, Tree, wait_until

Bodies = Mapping[int, Sequence[Path]]


class System(ABC):
    """A web server that takes records, and how many it has taken."""

    name: str

    def __init__(self, web: Server, url: str, bodies: Bodies) -> None:
        self.web = web
        self.url = url
        self.bodies = bodies

    @abstractmethod
    def target(self) -> Target:
        """Where requests go, unless said otherwise."""

    @abstractmethod
    def accepted(self) -> int:
        """Records that it has ever accepted, by what Redis holds."""

    @abstractmethod
    def trim(self) -> None:
        """Forget what is queued."""

    def send_one(self) -> httpx.Response | None:
        """Send one record; None where nobody answers. Raises BenchmarkFailed where it is not accepted."""
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
        """Send requests of `size` records. Raises BenchmarkFailed unless every one was accepted, and counted."""
        before = self.accepted()
        to = [Target(each.path + "/batch" * (size > 1), each.token) for each in targets or [self.target()]]
        with load.running(
            self.url, to, self.bodies[size], connections=connections, seconds=seconds, check=check, pause_ms=pause_ms
        ) as running:
            yield running
            seen = running.result()
        self.wait_until_idle()
        counted = self.accepted() - before - running.besides
        # wrk leaves when its time is up; what it sent last is accepted without its knowing.
        if not seen.requests * size <= counted <= (seen.requests + connections) * size:
            raise BenchmarkFailed(f"{self.name}: {seen.requests} x {size} records answered 202, {counted} queued")

    def wait_until_idle(self) -> None:
        """Wait for requests that wrk no longer waits for: the web server is at rest, while Redis answers."""
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
        """What requests of `size` records see."""
        with self.loaded(size, connections=connections, seconds=seconds, targets=targets, check=check) as running:
            return running.result()


class StoringSystem(System):
    """A system that also stores what it accepts, by workers of its own."""

    @abstractmethod
    def processes(self) -> Sequence[Tree]:
        """Its processes, those included that it shares."""

    @abstractmethod
    @contextmanager
    def working(self) -> Iterator[None]:
        """With its workers at work."""

    @abstractmethod
    def queued(self) -> int:
        """Records accepted and not yet stored."""

    @abstractmethod
    def stored(self) -> int:
        """Records that are stored, by its own account."""

    @abstractmethod
    def readable(self) -> int:
        """Records that can be read now, by a look at all of them."""

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far, by process, of those that run."""
        return {tree.name: tree.cpu_seconds() for tree in self.processes() if tree.pid is not None}

    def resident_megabytes(self) -> dict[str, float]:
        """Resident memory now, by process, of those that run."""
        return {tree.name: tree.resident_bytes() / 1e6 for tree in self.processes() if tree.pid is not None}
