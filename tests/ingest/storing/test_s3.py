"""Tables in an object store: the whole path with an S3 server that the tests start."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from deltalake.exceptions import DeltaError
from django.conf import settings

from datasets import services
from datasets.models import Dataset, Project
from datasets.tables import records
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.layout import PARTITION
from datasets.tables.table import DatasetTable
from ingest.monitoring import health
from ingest.storing import upkeep
from ingest.storing.drain import drain, drain_once
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api
from tests.support.entries import counters, in_stream, send, status
from tests.support.processes.signs import all_is_well
from tests.support.servers.object_store import ObjectStore


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    server = ObjectStore()
    yield server
    server.end()


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Use a new bucket of the server as the storage root."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    bucket = uuid.uuid4().hex
    httpx.put(f"{server.url}/{bucket}").raise_for_status()
    monkeypatch.setattr(settings, "STORAGE_URL", f"s3://{bucket}/some/prefix")
    server.requests()
    return server


def data_files(store: ObjectStore) -> int:
    """Return the number of Parquet files in the test's bucket."""
    bucket = settings.STORAGE_URL.split("/")[2]
    return httpx.get(f"{store.url}/{bucket}", params={"list-type": "2"}).text.count(".parquet</Key>")


def written(store: ObjectStore) -> list[str]:
    """Return the paths of the objects written since the last call."""
    return [path for method, path, _ in store.requests() if method in ("PUT", "POST")]


def names(dataset: Dataset) -> list[str]:
    found = [name for batch in records.batches(dataset) for name in batch.column("country").to_pylist()]
    return sorted(found, key=int)


def test_records_are_stored_and_read_back(store: ObjectStore, api: Api, dataset: Dataset) -> None:
    accepted = send(api, "0", "1")
    assert drain(dataset.pk) == 2
    send(api, "2")
    assert drain(dataset.pk) == 1
    assert names(dataset) == ["0", "1", "2"]
    assert status(api, accepted)["status"] == "stored"
    assert balance(dataset).adds_up


def test_commit_never_overwrites_another(store: ObjectStore, api: Api, dataset: Dataset) -> None:
    send(api, "0")
    drain(dataset.pk)
    commits = [condition for method, path, condition in store.requests() if method == "PUT" and path.endswith(".json")]
    assert commits == ["*", "*"]  # one commit creates the table, the other has the rows


def test_second_of_two_commits_for_the_same_queue_is_refused(store: ObjectStore, api: Api, dataset: Dataset) -> None:
    send(api, "0")
    drain(dataset.pk)
    faster, slower = (DatasetTable(dataset.project_id, dataset.pk) for _ in range(2))
    for table in (faster, slower):
        table.refresh()
    faster.append(None, generation="g", watermark=1, stored=0)
    with pytest.raises(ConcurrentCommit):
        slower.append(None, generation="g", watermark=1, stored=0)
    slower.refresh()
    assert slower.delta.version() == 2


def test_racing_drains_store_each_record_once(store: ObjectStore, api: Api, dataset: Dataset) -> None:
    send(api, "0")
    drain(dataset.pk)
    for n in range(1, 6):
        send(api, f"{n}")
        tables = [DatasetTable(dataset.project_id, dataset.pk) for _ in range(3)]
        for table in tables:
            table.refresh()
        together = threading.Barrier(len(tables))

        def commit(table: DatasetTable, together: threading.Barrier = together, n: int = n) -> bool:
            together.wait()
            try:
                table.append(None, generation="g", watermark=n, stored=0)
            except ConcurrentCommit:
                return False
            return True

        with ThreadPoolExecutor(len(tables)) as pool:
            assert sum(pool.map(commit, tables)) == 1
    drain(dataset.pk)
    assert names(dataset) == [f"{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_S3_ALLOW_UNSAFE_RENAME", "true"), ("AWS_CONDITIONAL_PUT", "disabled")]
)
def test_no_setting_makes_commits_unsafe(
    store: ObjectStore, api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """With each of these settings, the second commit is refused, or nothing is written."""
    monkeypatch.setenv(name, value)
    send(api, "0")
    try:
        drain_once(dataset)
    except OSError:
        assert written(store) == []
        assert in_stream(dataset) == 1
        return
    faster, slower = (DatasetTable(dataset.project_id, dataset.pk) for _ in range(2))
    for table in (faster, slower):
        table.refresh()
    faster.append(None, generation="g", watermark=1, stored=0)
    with pytest.raises(ConcurrentCommit):
        slower.append(None, generation="g", watermark=1, stored=0)


def test_tables_are_tidied(store: ObjectStore, api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(6):
        send(api, f"{n}")
        drain(dataset.pk)
    assert data_files(store) == 6
    monkeypatch.setattr(settings, "VACUUM_RETENTION_HOURS", 0)
    upkeep.tidy_tables(everything=True)
    assert data_files(store) == 1
    assert names(dataset) == [f"{n}" for n in range(6)]
    send(api, "6")
    drain(dataset.pk)
    assert balance(dataset).stored == 7


def test_storage_outage_costs_time_and_no_record(store: ObjectStore, api: Api, dataset: Dataset) -> None:
    send(api, "0")
    drain(dataset.pk)
    all_is_well()
    assert health.checks()["storage"] == "ok"
    store.stop()
    accepted = send(api, "1", "2")
    before = counters(dataset)
    with pytest.raises(OSError, match="S3"):
        drain(dataset.pk)
    assert counters(dataset) == before
    assert in_stream(dataset) == 1
    assert status(api, accepted)["status"] == "queued"
    store.start()
    assert drain(dataset.pk) == 2
    assert names(dataset) == ["0", "1", "2"]
    assert balance(dataset).adds_up
    assert status(api, accepted)["status"] == "stored"


@pytest.mark.parametrize("step", ["_delta_log", PARTITION, "_delta_log/00000000000000000002.json"])
def test_hanging_storage_does_not_block_other_datasets(
    store: ObjectStore, api: Api, dataset: Dataset, project: Project, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(settings, "STORAGE_TIMEOUT_SECONDS", 0.5)
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    send(api, "0")
    send(Api(api.token, other), "2")
    drain(dataset.pk)
    drain(other.pk)
    send(api, "1")
    send(Api(api.token, other), "3")
    store.hang(f"dataset_{dataset.pk}/{step}")
    began = time.monotonic()
    with pytest.raises((OSError, DeltaError)):
        drain(dataset.pk)
    assert time.monotonic() - began < 30  # delta-rs by itself waits for minutes
    assert drain(other.pk) == 1
    assert names(other) == ["2", "3"]
    assert in_stream(dataset) == 1
    store.hang("")
    drain(dataset.pk)
    assert names(dataset) == ["0", "1"]
    assert balance(dataset).adds_up


def test_readyz_does_not_wait_for_a_hanging_storage(
    store: ObjectStore, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_STORAGE_SECONDS", 0.5)
    store.hang("readiness")
    try:
        all_is_well()
        assert health.checks()["storage"] == "unavailable: OSError"
    finally:
        store.hang("")
