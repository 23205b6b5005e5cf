"""The ceiling, the Node service and the baseline, as systems to measure."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis

from config.common.env import BASE_DIR
from tests.benchmarks.load import Target
from tests.benchmarks.systems.processes import Server, Tree, wait_until
from tests.benchmarks.systems.system import Bodies, StoringSystem, System


class Scripted(System):
    """A system that runs `charge.lua` for each request, and stores nothing."""

    TOKEN = "benchmark"

    def __init__(self, web: Server, url: str, bodies: Bodies, *, socket: Path) -> None:
        super().__init__(web, url, bodies)
        self._redis: Any = redis.Redis(unix_socket_path=str(socket))

    @classmethod
    def environment(cls, socket: Path) -> dict[str, str]:
        """Return the environment of the system's web server."""
        script = Path(__file__).with_name("charge.lua")
        return {"REDIS_SOCKET": str(socket), "SCRIPT": str(script), "PREFIX": f"{cls.name}:", "API_KEY": cls.TOKEN}

    def target(self) -> Target:
        return Target("/datasets/1", self.TOKEN)

    def accepted(self) -> int:
        return int(self._redis.get(f"{self.name}:total") or 0)

    def trim(self) -> None:
        self._redis.delete(f"{self.name}:stream")


class Ceiling(Scripted):
    """`tests.benchmarks.systems.ceiling`, with the product's web server."""

    name = "ceiling"


class Node(Scripted):
    """`tests/benchmarks/node`: a Node.js service."""

    name = "node"
    directory = BASE_DIR / "tests" / "benchmarks" / "node"


class Baseline(StoringSystem):
    """`tests.benchmarks.baseline`: a plain Django project."""

    name = "baseline"

    def __init__(
        self,
        web: Server,
        url: str,
        bodies: Bodies,
        *,
        redis_server: Server,
        worker: Server,
        postgres: Tree,
        environment: dict[str, str],
    ) -> None:
        super().__init__(web, url, bodies)
        self._trees = (redis_server, web, worker, postgres)
        self._worker = worker
        self._cache: Any = redis.Redis.from_url(environment["BASELINE_REDIS_URL"])
        broker_url = environment["BASELINE_BROKER_URL"].replace("redis+socket", "unix").replace("virtual_host", "db")
        self._broker: Any = redis.Redis.from_url(broker_url)
        self._database = psycopg.connect(environment["BASELINE_DATABASE_URL"], autocommit=True)
        self._token = environment["BASELINE_KEY"]

    def target(self) -> Target:
        return Target("/datasets/1", self._token)

    def processes(self) -> Sequence[Tree]:
        return self._trees

    def accepted(self) -> int:
        return sum(int(self._cache.get(key) or 0) for key in self._cache.keys("usage:*"))

    def trim(self) -> None:
        self._broker.delete("celery", "unacked", "unacked_index")
        self._database.execute("TRUNCATE baseline_record")

    def queued(self) -> int:
        """Return the number of queued requests: the broker does not know how many records each has."""
        return int(self._broker.llen("celery")) + int(self._broker.hlen("unacked"))

    def stored(self) -> int:
        row = self._database.execute("SELECT count(*) FROM baseline_record").fetchone()
        assert row is not None
        return int(row[0])

    def readable(self) -> int:
        return self.stored()

    @contextmanager
    def working(self) -> Iterator[None]:
        self._worker.start()
        try:
            self.send_one()
            wait_until(self.stored, "the baseline's worker stores a record")
            yield
        finally:
            self._worker.stop()
