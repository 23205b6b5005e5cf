"""REDIS_WAIT_REPLICAS: a 202 says that a replica has the record. A real replica is stopped and detached."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.common.redis import TooFewReplicas
from datasets import services
from datasets.models import Dataset
from datasets.schemas.fields import Field
from ingest.queue import redis_keys
from ingest.storing.drain import drain
from quotas.services import flush
from tests.conftest import FIELDS, Api, record, stored
from tests.support.servers.sentinels import (
    Server,
    data_server,
    forget_connections,
    replicate,
    running,
    use,
    wait_until,
)

UNKNOWN = "The outcome is unknown. Send the request again with the same Idempotency-Key to be sure."


class Pair:
    """A primary and its replica."""

    def __init__(self, directory: Path, settings: Any) -> None:
        self.primary, self.replica = (data_server(directory / name) for name in ("primary", "replica"))
        self.settings = settings

    def start(self) -> None:
        for server in (self.primary, self.replica):
            server.start()
        replicate(self.replica, self.primary)
        use(self.settings, self.primary.url)

    @contextmanager
    def replica_stopped(self) -> Iterator[None]:
        self.replica.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.replica.send_signal(signal.SIGCONT)

    def promote(self) -> None:
        """Kill the primary, use the replica instead, and make the killed server the new replica."""
        self.primary.kill()
        use(self.settings, self.replica.url)
        self.primary.start()
        replicate(self.primary, self.replica)


@pytest.fixture
def pair(tmp_path: Path, settings: Any) -> Iterator[Pair]:
    settings.REDIS_WAIT_REPLICAS = 1
    found = Pair(tmp_path / "servers", settings)
    with running(found.primary, found.replica):
        found.start()
        yield found
    forget_connections()


def is_unknown(answer: httpx.Response) -> bool:
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
    assert answer.headers["Retry-After"] == "1"
    return bool(answer.json()["detail"] == UNKNOWN)


def entries(server: Server, dataset: Dataset) -> int:
    count: int = server.client().xlen(redis_keys.stream(dataset.pk))
    return count


def test_202_means_that_a_replica_has_the_record(pair: Pair, api: Api, dataset: Dataset) -> None:
    assert api.one(record(amount=1)).status_code == 202
    pair.primary.kill()
    assert entries(pair.replica, dataset) == 1


def test_repeated_request_waits_for_the_replica_too(pair: Pair, api: Api, dataset: Dataset) -> None:
    with pair.replica_stopped():
        assert is_unknown(api.one(record(amount=1), Idempotency_Key="first"))
        assert is_unknown(api.one(record(amount=2)))
        forget_connections()  # the repeated request uses a connection that has written nothing
        assert is_unknown(api.one(record(amount=1), Idempotency_Key="first"))
        services.save_dataset(dataset, fields=[*FIELDS, Field("added", "string")])
        forget_connections()
        assert is_unknown(api.one(record(amount=1), Idempotency_Key="first"))  # the new schema refuses the record
        assert api.one(record(amount=1), Idempotency_Key="other").status_code == 400
    answer = api.one(record(amount=1), Idempotency_Key="first")
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (202, "true")
    assert [row["amount"] for row in stored(dataset)] == [1, 2]


def test_request_that_is_sent_again_waits_for_the_replica_too(pair: Pair, api: Api, dataset: Dataset) -> None:
    client = pair.primary.client()
    with pair.replica_stopped(), ThreadPoolExecutor(1) as pool:
        sent = pool.submit(api.one, record(amount=1))
        wait_until(lambda: entries(pair.primary, dataset), "the record")
        client.client_kill_filter(_type="normal", skipme=True)
        assert is_unknown(sent.result())
    assert len(stored(dataset)) == 1


def test_nothing_is_stored_or_flushed_before_a_replica_has_it(pair: Pair, api: Api, dataset: Dataset) -> None:
    with pair.replica_stopped():
        assert is_unknown(api.one(record(amount=1)))
        assert drain(dataset.pk) == 0
        with pytest.raises(TooFewReplicas):
            flush()
    assert flush() == 1
    assert len(stored(dataset)) == 1


def test_failover_to_a_lagging_replica_loses_and_doubles_nothing(pair: Pair, api: Api, dataset: Dataset) -> None:
    for number in range(3):
        assert api.one(record(amount=number), Idempotency_Key=f"key-{number}").status_code == 202
    pair.replica.client().replicaof("NO", "ONE")  # later writes do not reach the replica
    for number in range(3, 6):
        assert is_unknown(api.one(record(amount=number), Idempotency_Key=f"key-{number}"))
    assert drain(dataset.pk) == 0
    pair.promote()
    for number in range(6):
        assert api.one(record(amount=number), Idempotency_Key=f"key-{number}").status_code == 202
    assert [row["amount"] for row in stored(dataset)] == [*range(6)]


def test_without_waiting_a_lagging_replica_doubles_no_stored_record(
    pair: Pair, api: Api, dataset: Dataset, settings: Any
) -> None:
    settings.REDIS_WAIT_REPLICAS = 0
    for number in range(3):
        assert api.one(record(amount=number), Idempotency_Key=f"key-{number}").status_code == 202
    wait_until(lambda: entries(pair.replica, dataset) == 3, "replication")
    pair.replica.client().replicaof("NO", "ONE")
    for number in range(3, 6):
        assert api.one(record(amount=number)).status_code == 202
    assert len(stored(dataset)) == 6
    pair.promote()  # the replica has the first three entries, but not the others
    for number in range(3):
        assert api.one(record(amount=number), Idempotency_Key=f"key-{number}").headers["Idempotent-Replayed"] == "true"
    assert api.one(record(amount=6)).status_code == 202
    assert [row["amount"] for row in stored(dataset)] == [*range(7)]
