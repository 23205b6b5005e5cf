"""An import that is interrupted continues, and each row counts once."""

import fcntl
import json
import random
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from config.common import redis
from config.common.env import BASE_DIR
from datasets import services
from datasets.models import Dataset
from datasets.schemas.fields import Field
from ingest.models import QuarantinedEntry
from ingest.storing.drain import drain
from quotas.services import set_limit
from tests.conftest import FIELDS, Api, record, stored
from tests.ingest.importing.importing import import_file, refused, write_lines
from tests.support.books import books
from tests.support.servers.outages import redis_away
from tests.test_commands import environment

KILLS = 4


def numbered(path: Path, count: int) -> Path:
    """Write rows with consecutive amounts. Each tenth row is refused."""
    return write_lines(path, *(record(amount=float(n) if n % 10 else str(n)) for n in range(count)))


def progress(path: Path, dataset: Dataset) -> Path:
    return path.with_name(f"{path.name}.import-{dataset.pk}")


def amounts(dataset: Dataset) -> list[float]:
    return [row["amount"] for row in stored(dataset)]


def assert_each_row_once(dataset: Dataset, path: Path, count: int) -> None:
    assert amounts(dataset) == [n for n in range(count) if n % 10]
    assert [row["row"] for row in refused(path)] == [n + 1 for n in range(count) if n % 10 == 0]
    assert books(dataset.project.owner).total == count * 9 // 10


def test_an_import_that_is_killed_several_times_stores_each_row_once(dataset: Dataset, tmp_path: Path) -> None:
    count = 4_000
    path = numbered(tmp_path / "a.ndjson", count)
    command = [sys.executable, "manage.py", "import", str(dataset.pk), str(path)]
    given = environment(MAX_BATCH_RECORDS="50")
    killed = 0
    for kill in range(KILLS):
        process = subprocess.Popen(command, cwd=BASE_DIR, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        written = progress(path, dataset).stat().st_size if progress(path, dataset).exists() else 0
        deadline = time.monotonic() + 60
        more = random.uniform(0, 2_000)
        while process.poll() is None and time.monotonic() < deadline:
            if progress(path, dataset).exists() and progress(path, dataset).stat().st_size > written + more:
                process.kill()
                break
        killed += process.wait() == -9
        process.communicate()
        if kill == KILLS // 2:
            drain(dataset.pk)
    assert killed >= KILLS // 2
    done = subprocess.run(command, cwd=BASE_DIR, env=given, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, f"Dataset {dataset.pk} has accepted 3,600 records of 4,000 rows.\n")
    assert "Continuing after" in done.stderr
    assert_each_row_once(dataset, path, count)


@pytest.mark.parametrize("torn", [0, 5])
def test_a_chunk_whose_answer_was_not_noted_is_recognized(
    dataset: Dataset, tmp_path: Path, settings: Settings, torn: int
) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = numbered(tmp_path / "a.ndjson", 100)
    import_file(dataset, path)
    lines = progress(path, dataset).read_bytes().splitlines(keepends=True)
    progress(path, dataset).write_bytes(b"".join(lines[:3]) + lines[3][:torn])
    settings.MAX_BATCH_RECORDS = 30  # a resumed import keeps its chunks
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 90 records of 100 rows.\n"
    assert_each_row_once(dataset, path, 100)


def test_the_progress_file_has_a_receipt_for_each_chunk(
    api: Api, dataset: Dataset, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BATCH_RECORDS = 10
    path = numbered(tmp_path / "x.ndjson", 30)
    import_file(dataset, path)
    lines = map(json.loads, progress(path, dataset).read_text().splitlines()[1:])
    receipts = [line["receipt"] for line in lines if line["is_certain"] and not line["is_done"]]
    assert len(set(receipts)) == 3
    for status in ("queued", "stored"):
        found = [api.request("GET", f"/datasets/{dataset.pk}/receipts/{receipt}").json() for receipt in receipts]
        assert [each["status"] for each in found] == [status] * 3
        drain(dataset.pk)


def test_without_the_progress_file_every_chunk_is_recognized_for_a_day(dataset: Dataset, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.ndjson", 100)
    import_file(dataset, path)
    progress(path, dataset).unlink()
    assert "a.ndjson.refused.ndjson exists. Move it away" in import_file(dataset, path).err
    path.with_name("a.ndjson.refused.ndjson").unlink()
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 90 records of 100 rows.\n"
    assert_each_row_once(dataset, path, 100)
    progress(path, dataset).unlink()
    path.with_name("a.ndjson.refused.ndjson").unlink()
    assert "with other options or limits" in import_file(dataset, path, "--map", "a=b").err
    assert amounts(dataset) == [n for n in range(100) if n % 10]


def test_an_accepted_chunk_stays_accepted_after_a_change_of_the_schema(
    dataset: Dataset, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = tmp_path / "a.ndjson"
    interrupted(dataset, path)
    services.save_dataset(dataset, fields=[*FIELDS, Field("note", "string")])
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 90 records of 100 rows.\n"
    assert_each_row_once(dataset, path, 100)


@pytest.mark.parametrize("fields", [[*FIELDS, Field("note", "string")], [*FIELDS[:2], *FIELDS[3:]]])
def test_a_changed_schema_stops_an_import_without_progress_file(
    dataset: Dataset, tmp_path: Path, fields: list[Field]
) -> None:
    path = numbered(tmp_path / "a.ndjson", 100)
    import_file(dataset, path)
    progress(path, dataset).unlink()
    path.with_name("a.ndjson.refused.ndjson").unlink()
    services.save_dataset(dataset, fields=fields)
    done = import_file(dataset, path)
    assert (done.code, done.out) == (1, "")
    assert "The chunk of rows from row 1 on was accepted before, under another schema version" in done.err
    assert amounts(dataset) == [n for n in range(100) if n % 10]


def test_a_finished_import_is_not_repeated(dataset: Dataset, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.ndjson", 10)
    first = import_file(dataset, path)
    again = import_file(dataset, path)
    assert (again.code, again.out) == (first.code, first.out) == (3, first.out)
    assert "was imported before, so nothing was sent." in again.err
    assert_each_row_once(dataset, path, 10)


def forget_keys(dataset: Dataset, path: Path) -> None:
    """Make an import two days old: Redis has forgotten every Idempotency-Key."""
    for key in redis.client().scan_iter("idem:*"):
        redis.client().delete(key)
    lines = [json.loads(line) for line in progress(path, dataset).read_text().splitlines()]
    for line in lines:
        name = "at" if "at" in line else "began"
        line[name] = (datetime.fromisoformat(line[name]) - timedelta(days=2)).isoformat()
    progress(path, dataset).write_text("".join(json.dumps(line) + "\n" for line in lines))


def interrupted(dataset: Dataset, path: Path) -> None:
    """Import a file, and forget the answer to its last chunk."""
    numbered(path, 100)
    import_file(dataset, path)
    lines = progress(path, dataset).read_bytes().splitlines(keepends=True)
    progress(path, dataset).write_bytes(b"".join(lines[:-2]))


def test_days_later_the_table_shows_what_was_accepted(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = tmp_path / "a.ndjson"
    interrupted(dataset, path)
    forget_keys(dataset, path)
    said = import_file(dataset, path)
    assert said.code == 1
    assert f"when `manage.py ledger --dataset {dataset.pk}` shows no queued records." in said.err
    drain(dataset.pk)
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 90 records of 100 rows.\n"
    assert_each_row_once(dataset, path, 100)


def test_days_later_a_quarantined_chunk_is_recognized(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = tmp_path / "a.ndjson"
    interrupted(dataset, path)
    (entry_id, fields), *_ = redis.client().xrevrange(f"queue:stream:{dataset.pk}", count=1)
    redis.client().xdel(f"queue:stream:{dataset.pk}", entry_id)
    redis.client().xadd(f"queue:stream:{dataset.pk}", {**fields, b"b": b"[{}]"})
    drain(dataset.pk)
    assert QuarantinedEntry.objects.get().count == 18
    forget_keys(dataset, path)
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 90 records of 100 rows.\n"
    assert books(dataset.project.owner).total == 90


def test_days_later_a_chunk_that_was_not_sent_is_sent(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 20
    set_limit(dataset.project.owner, 40)
    path = numbered(tmp_path / "a.ndjson", 100)
    assert import_file(dataset, path).code == 1
    drain(dataset.pk)
    forget_keys(dataset, path)
    set_limit(dataset.project.owner, 90)
    assert import_file(dataset, path).out == f"Dataset {dataset.pk} has accepted 90 records of 100 rows.\n"
    assert_each_row_once(dataset, path, 100)


def test_after_retention_has_begun_the_command_does_not_guess(
    dataset: Dataset, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = tmp_path / "a.ndjson"
    interrupted(dataset, path)
    drain(dataset.pk)
    settings.RETENTION_DAYS = 1
    forget_keys(dataset, path)
    done = import_file(dataset, path)
    assert done.code == 1
    assert "this command cannot tell whether the chunk import-" in done.err


def test_a_used_quota_stops_the_import_and_a_later_run_continues(
    dataset: Dataset, tmp_path: Path, settings: Settings
) -> None:
    settings.MAX_BATCH_RECORDS = 20
    set_limit(dataset.project.owner, 40)
    path = numbered(tmp_path / "a.ndjson", 100)
    done = import_file(dataset, path)
    assert (done.code, done.out) == (1, "")
    assert "The next 18 records do not fit into the monthly quota: 36 of 40 records are used." in done.err
    assert books(dataset.project.owner).total == 36
    set_limit(dataset.project.owner, 90)
    assert import_file(dataset, path).code == 3
    assert_each_row_once(dataset, path, 100)


def test_the_import_waits_while_the_backlog_is_full(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = numbered(tmp_path / "a.ndjson", 100)
    settings.BACKLOG_LIMIT_BYTES_PER_DATASET = 12_000
    over = threading.Event()

    def drain_often() -> None:
        while not over.wait(0.2):
            drain(dataset.pk)
        connection.close()

    worker = threading.Thread(target=drain_often)
    worker.start()
    try:
        done = import_file(dataset, path)
    finally:
        over.set()
        worker.join()
    assert done.code == 3
    assert "Waiting: Ingest queue is full: The backlog of this dataset has reached its limit." in done.err
    assert "Trying again after 5 s.\nContinuing.\n" in done.err
    assert_each_row_once(dataset, path, 100)


def test_the_import_waits_while_redis_is_away(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.ADMISSION_TIMEOUT_SECONDS = 0.1
    settings.MAX_BATCH_RECORDS = 5
    path = numbered(tmp_path / "a.ndjson", 500)
    results = []

    def run() -> None:
        results.append(import_file(dataset, path))
        connection.close()

    importing = threading.Thread(target=run)
    importing.start()
    while not progress(path, dataset).exists() or progress(path, dataset).stat().st_size < 1_000:
        assert importing.is_alive()
    with redis_away():
        importing.join(1.5)
        assert importing.is_alive()
    importing.join(60)
    (done,) = results
    assert done.code == 3
    assert "Waiting: " in done.err
    assert_each_row_once(dataset, path, 500)


def test_without_redis_an_import_does_not_begin(dataset: Dataset, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.ndjson", 10)
    with redis_away():
        done = import_file(dataset, path)
    assert (done.code, done.out) == (1, "")
    assert "Redis: " in done.err
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a.ndjson"]


def test_a_changed_file_is_not_continued(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = tmp_path / "a.ndjson"
    interrupted(dataset, path)
    text = path.read_text()
    path.write_text(text + "\n")
    done = import_file(dataset, path)
    assert done.code == 1
    assert f"it had {len(text):,} bytes, and has {len(text) + 1:,} now. 80 rows of it were sent before." in done.err
    path.write_text(text)
    assert import_file(dataset, path).code == 3
    assert_each_row_once(dataset, path, 100)


def test_other_options_and_places_are_not_continued(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = tmp_path / "a.ndjson"
    interrupted(dataset, path)
    assert "The earlier run had other options" in import_file(dataset, path, "--drop", "x").err
    elsewhere = str(tmp_path / "elsewhere")
    assert "The earlier run wrote refused rows to" in import_file(dataset, path, "--refused", elsewhere).err
    other = progress(path, dataset)
    moved = other.rename(tmp_path / "moved")
    document = json.loads(moved.read_text().splitlines()[0])
    moved.write_text(json.dumps({**document, "dataset": 10**6}) + "\n")
    assert "belongs to an import into dataset 1000000" in import_file(dataset, path, "--progress", str(moved)).err
    moved.write_text("{}\n")
    assert "is not a progress file of this release" in import_file(dataset, path, "--progress", str(moved)).err


def test_the_import_stops_if_its_refused_rows_were_moved(dataset: Dataset, tmp_path: Path, settings: Settings) -> None:
    settings.MAX_BATCH_RECORDS = 20
    path = tmp_path / "a.ndjson"
    interrupted(dataset, path)
    path.with_name("a.ndjson.refused.ndjson").unlink()
    assert "it was moved or shortened. Put it back" in import_file(dataset, path).err


def test_two_runs_at_the_same_time_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.ndjson", 10)
    with progress(path, dataset).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "Another process is running this import" in import_file(dataset, path).err
    assert import_file(dataset, path).code == 3
    assert_each_row_once(dataset, path, 10)
