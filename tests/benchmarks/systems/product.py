"""The product as a system to measure: the processes of `manage.py up` without their supervisor."""

import http.client
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from django.contrib.auth.models import User

from config.common import redis
from config.common.cluster.key_tags import NO_TAG
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.queue import generations, redis_keys, stream, turns
from tests.benchmarks.load import Target
from tests.benchmarks.payloads import FIELDS, body
from tests.benchmarks.systems.processes import Server, Tree, wait_until
from tests.benchmarks.systems.system import Bodies, StoringSystem


class Product(StoringSystem):
    """The service itself. Requests go to one dataset, a new one for each measurement that stores records."""

    name = "product"

    def __init__(self, servers: Mapping[str, Server], url: str, bodies: Bodies) -> None:
        super().__init__(servers["web"], url, bodies)
        self._servers = servers
        self.project = services.create_project(slug="benchmark", owner=User.objects.create_user("benchmark"))
        self.key = services.create_key(project=self.project, name="benchmark")
        self.token = issue_token(self.key)
        self.dataset = self.new_dataset()

    def new_dataset(self) -> Dataset:
        """Create a dataset with an empty table, and send requests to it from now on."""
        number = Dataset.objects.count() + 1
        self.use(services.create_dataset(project=self.project, name=f"benchmark {number}", fields=FIELDS))
        return self.dataset

    def use(self, dataset: Dataset) -> None:
        """Send requests to this dataset from now on."""
        self.dataset = dataset
        self.table = DatasetTable.of(dataset)

    def drop_table(self) -> None:
        """Free the disk, and continue with a new dataset."""
        shutil.rmtree(self.table.uri, ignore_errors=True)
        self.new_dataset()

    def target(self) -> Target:
        return Target(f"/datasets/{self.dataset.pk}", self.token)

    def processes(self) -> Sequence[Tree]:
        return tuple(self._servers.values())

    def accepted(self) -> int:
        return int(redis.client().get(redis_keys.TOTAL_ACCEPTED) or 0)

    def trim(self) -> None:
        client = redis.client()
        for dataset_id in turns.pending():
            client.delete(redis_keys.stream(dataset_id))
            client.delete(redis_keys.queued(dataset_id), redis_keys.queued_bytes(dataset_id))
        pending = map(redis_keys.pending, map(int, client.zrange(redis_keys.TURNS, 0, -1)))
        client.delete(redis_keys.TURNS, redis_keys.TOTAL_BYTES, *pending)

    def queued(self) -> int:
        return int(redis.client().get(redis_keys.queued(self.dataset.pk)) or 0)

    def queued_bytes(self) -> int:
        """Return the queued bytes of all datasets."""
        return int(redis.client().get(redis_keys.TOTAL_BYTES) or 0)

    def position(self) -> int:
        """Return the table's watermark."""
        return self.table.watermark(generations.current(NO_TAG) or "") if self.table.refresh() else 0

    def stored(self) -> int:
        return self.table.stored(generations.current(NO_TAG) or "") if self.table.refresh() else 0

    def readable(self) -> int:
        """Return the number of rows in the table's files."""
        return int(self.table.delta.to_pyarrow_dataset().count_rows()) if self.table.refresh() else 0

    def fill(self, records: int) -> None:
        """Queue at least `records` records in batches of 1,000. No worker may be running."""
        while self.queued() < records:
            self.measure(1000, connections=16, seconds=1)

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._started("worker", "upkeep", "beat"):
            Probe(self).wait()
            yield

    @contextmanager
    def standing_by(self) -> Iterator[None]:
        """Run warm workers, but no beat that starts drains: see `dispatching`."""
        cold = self._servers["worker"].pid is None
        with self._started("worker", "upkeep"):
            if cold:
                with self.dispatching():
                    Probe(self).wait()
            yield

    @contextmanager
    def dispatching(self) -> Iterator[None]:
        """Run beat, which starts drains."""
        with self._started("beat"):
            yield

    @contextmanager
    def _started(self, *names: str) -> Iterator[None]:
        """Run processes during the block. Do not restart processes that already run, because this takes seconds."""
        ours = [self._servers[name] for name in names if self._servers[name].pid is None]
        try:
            for server in ours:
                server.start()
            yield
        finally:
            for server in reversed(ours):
                server.stop()


class Probe:
    """Sends single records over its own connection."""

    def __init__(self, product: Product) -> None:
        self._product = product
        address = urlsplit(product.url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)

    def send(self) -> tuple[float, int]:
        """Send a record. Return when it was accepted (monotonic clock), and its position in the queue."""
        target = self._product.target()
        headers = {"Authorization": f"Bearer {target.token}", "Content-Type": "application/json"}
        self._connection.request("POST", target.path, body(1, 0), headers)
        response = self._connection.getresponse()
        accepted_at = time.monotonic()
        said = response.read()
        assert response.status == 202, said
        _, ms, seq, _ = response.headers["Location"].rpartition("/")[2].split("-")
        return accepted_at, stream.position_of(f"{ms}-{seq}")

    def wait(self) -> None:
        """Send a record, and wait until it can be read."""
        _, position = self.send()
        wait_until(lambda: self._product.position() >= position, "a record is stored")
