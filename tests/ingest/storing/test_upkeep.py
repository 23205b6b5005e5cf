"""Upkeep: tables are compacted and vacuumed while records arrive, and the last use of API keys is saved."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings

from config.common import clock, redis
from config.common.cluster.key_tags import NO_TAG
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.fields import Field
from datasets.tables import records
from datasets.tables.layout import PARTITION
from datasets.tables.maintenance import tidy
from datasets.tables.table import DatasetTable
from ingest import tasks
from ingest.monitoring import heartbeat
from ingest.queue import admission, generations, redis_keys, stream
from ingest.storing import untidy, upkeep
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api
from tests.support.entries import names_in_table, send, table_of
from tests.support.processes.crashing import data_files, drain_until_empty, running, start, tidy_for_ever, wait_until


def files(dataset: Dataset) -> int:
    """Return the number of data files in the table's latest version."""
    return len(table_of(dataset).file_uris())


def store(api: Api, dataset: Dataset, *names: object) -> None:
    """Store each record in its own commit, and so in its own file."""
    for name in names:
        send(api, name)
        drain(dataset.pk)


# -- tidying ------------------------------------------------------------------------------------------


def test_many_small_files_become_one(api: Api, dataset: Dataset) -> None:
    store(api, dataset, *range(20))
    before = balance(dataset)
    assert files(dataset) == 20
    upkeep.tidy_tables(everything=False)
    assert files(dataset) == 1
    assert names_in_table(dataset) == [f"{n}" for n in range(20)]
    assert balance(dataset) == before
    store(api, dataset, "next")
    assert names_in_table(dataset)[-1] == "next"


def test_only_tables_that_were_written_to_are_tidied(api: Api, dataset: Dataset, project: Project) -> None:
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    store(api, dataset, 1, 2)
    api.dataset = other
    store(api, other, 1, 2)
    assert sorted(untidy.dataset_ids()) == sorted([dataset.pk, other.pk])
    untidy.clear(other.pk)
    upkeep.tidy_tables(everything=False)
    assert (files(dataset), files(other)) == (1, 2)
    assert untidy.dataset_ids() == []
    upkeep.tidy_tables(everything=True)
    assert (files(dataset), files(other)) == (1, 1)


def test_table_written_to_during_compaction_is_tidied_again(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(api, dataset, 1, 2)

    def tidy_while_records_arrive(table: DatasetTable, fields: Sequence[Field], *, sweep: bool) -> None:
        tidy(table, fields, sweep=sweep)
        store(api, dataset, 3)

    monkeypatch.setattr(upkeep, "tidy", tidy_while_records_arrive)
    upkeep.tidy_tables(everything=False)
    assert untidy.dataset_ids() == [dataset.pk]


def test_failing_table_does_not_block_the_others(api: Api, dataset: Dataset, project: Project) -> None:
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    store(api, dataset, 1, 2)
    api.dataset = other
    store(api, other, 1, 2)
    log = Path(DatasetTable(dataset.project_id, dataset.pk).uri) / "_delta_log"
    (log / f"{0:020}.json").write_text("{broken")
    upkeep.tidy_tables(everything=False)
    assert files(other) == 1
    assert untidy.dataset_ids() == [dataset.pk]


@pytest.mark.parametrize("everything", [True, False])
def test_dataset_without_a_table_is_skipped(dataset: Dataset, everything: bool) -> None:
    untidy.mark(dataset.pk)
    upkeep.tidy_tables(everything=everything)
    assert untidy.dataset_ids() == []


def test_tidying_during_a_drain_loses_and_hides_nothing(api: Api, dataset: Dataset) -> None:
    store(api, dataset, *range(3))
    process = start(tidy_for_ever)
    with running(process):
        seen = 3
        for n in range(3, 60):
            send(api, n)
            drain(dataset.pk)
            found = records.count(dataset)  # a reader never sees fewer records than before
            assert found >= seen
            seen = found
        assert process.exitcode is None
    drain(dataset.pk)
    assert names_in_table(dataset) == [f"{n}" for n in range(60)]
    assert balance(dataset).adds_up
    operations = {entry["operation"] for entry in table_of(dataset).history()}
    assert "OPTIMIZE" in operations


def test_two_concurrent_tidy_runs_double_nothing(api: Api, dataset: Dataset) -> None:
    names = []
    with running(start(tidy_for_ever), start(tidy_for_ever)):
        for n in range(40):
            send(api, f"{n}")
            drain_until_empty(dataset.pk)
            names.append(f"{n}")
    assert names_in_table(dataset) == names
    upkeep.tidy_tables(everything=True)
    assert names_in_table(dataset) == names


def test_compaction_killed_at_any_moment_harms_nothing(api: Api, dataset: Dataset) -> None:
    chance = random.Random(3)
    names = 0
    for _ in range(6):
        store(api, dataset, *range(names, names + 5))
        names += 5
        process = start(tidy_for_ever)
        with running(process):
            wait_until(lambda: files(dataset) == 1)
            store(api, dataset, *range(names, names + 5))
            names += 5
            process.join(chance.uniform(0, 0.03))
    drain(dataset.pk)  # stores what a drain has left because a compaction had committed first
    assert names_in_table(dataset) == [f"{n}" for n in range(names)]
    upkeep.tidy_tables(everything=True)
    assert names_in_table(dataset) == [f"{n}" for n in range(names)]
    assert balance(dataset).adds_up


def test_sweep_deletes_old_files_of_a_killed_drain(api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    store(api, dataset, 1, 2)
    root = Path(settings.STORAGE_URL)
    committed = data_files(root)
    orphan = committed[0].with_name("part-00000-orphan-c000.snappy.parquet")
    orphan.write_bytes(committed[0].read_bytes())
    upkeep.tidy_tables(everything=True)
    assert orphan.exists()
    monkeypatch.setattr(settings, "VACUUM_RETENTION_HOURS", 0)
    upkeep.tidy_tables(everything=True)
    assert len(data_files(root)) == 1
    assert names_in_table(dataset) == ["1", "2"]


def test_retention_deletes_whole_days_of_every_dataset(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(api, dataset, "today")
    untidy.clear(dataset.pk)
    accepted = clock.now()
    monkeypatch.setattr(settings, "RETENTION_DAYS", 7)
    monkeypatch.setattr(clock, "now", lambda: accepted + timedelta(days=7))
    upkeep.tidy_tables(everything=True)
    assert names_in_table(dataset) == ["today"]
    monkeypatch.setattr(clock, "now", lambda: accepted + timedelta(days=8))
    upkeep.tidy_tables(everything=True)
    assert names_in_table(dataset) == []
    assert balance(dataset).adds_up  # the ledger counts rows ever written, not rows that remain
    monkeypatch.undo()
    store(api, dataset, "again")
    assert names_in_table(dataset) == ["again"]


def test_row_belongs_to_the_day_of_its_acceptance(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    (entry,) = stream.read(dataset.pk, generations.current(NO_TAG) or "")
    drain(dataset.pk)
    (row,) = table_of(dataset).to_pyarrow_table().to_pylist()
    accepted = datetime.fromtimestamp(int(entry.stream_id.split("-")[0]) / 1000, UTC)
    assert row[PARTITION] == accepted.date()


# -- when all tables are swept


def test_a_sweep_is_due_after_a_start_and_six_hours_after_the_last(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(api, dataset, "old")
    accepted = clock.now()
    monkeypatch.setattr(settings, "RETENTION_DAYS", 7)
    monkeypatch.setattr(clock, "now", lambda: accepted + timedelta(days=8))
    tasks.sweep()
    assert names_in_table(dataset) == []

    assert 6 * 3600 - 60 < redis.client().ttl(redis_keys.SWEPT) <= 6 * 3600
    monkeypatch.undo()
    store(api, dataset, "next")
    monkeypatch.setattr(settings, "RETENTION_DAYS", 7)
    monkeypatch.setattr(clock, "now", lambda: accepted + timedelta(days=8))
    tasks.sweep()
    assert names_in_table(dataset) == ["next"]
    redis.client().delete(redis_keys.SWEPT)  # as Redis does after six hours
    tasks.sweep()
    assert names_in_table(dataset) == []


def test_a_sweep_that_dies_is_repeated(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*, everything: bool) -> None:
        raise SystemExit

    monkeypatch.setattr(upkeep, "tidy_tables", die)
    with pytest.raises(SystemExit):
        tasks.sweep()
    assert upkeep.sweep_is_due()


# -- keys ---------------------------------------------------------------------------------------------


def test_last_use_of_a_key_is_noted(
    api: Api, dataset: Dataset, key: ApiKey, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = services.create_key(project=project, name="idle")
    upkeep.note_key_use()
    key.refresh_from_db()
    assert key.last_used_at is None

    began = datetime.now(UTC)
    send(api, "a")
    upkeep.note_key_use()
    key.refresh_from_db()
    idle.refresh_from_db()
    assert key.last_used_at is not None
    assert began - timedelta(seconds=1) < key.last_used_at < datetime.now(UTC) + timedelta(seconds=1)
    assert idle.last_used_at is None
    assert not redis.client().exists(redis_keys.KEYS_LAST_USED)

    monkeypatch.setattr(admission, "_LAST_USED_SECONDS", 0.0)
    send(Api(issue_token(idle), dataset), "b")
    send(api, "c")
    upkeep.note_key_use()
    first = key.last_used_at
    key.refresh_from_db()
    idle.refresh_from_db()
    assert key.last_used_at > first
    assert idle.last_used_at is not None


def test_use_of_a_deleted_key_is_dropped(api: Api, dataset: Dataset, key: ApiKey) -> None:
    send(api, "a")
    key.delete()
    upkeep.note_key_use()
    assert not redis.client().exists(redis_keys.KEYS_LAST_USED)


def test_refused_request_does_not_count_as_use(api: Api, dataset: Dataset, key: ApiKey) -> None:
    assert api.one("{}").status_code == 400
    upkeep.note_key_use()
    key.refresh_from_db()
    assert key.last_used_at is None


# -- as beat calls it ---------------------------------------------------------------------------------


def test_tasks_do_their_work(api: Api, dataset: Dataset, key: ApiKey) -> None:
    send(api, "a")
    tasks.drain()
    send(api, "b")
    tasks.drain()
    tasks.drain()  # nothing is due
    tasks.tidy()
    assert files(dataset) == 1
    tasks.note_key_use()
    key.refresh_from_db()
    assert key.last_used_at is not None
    tasks.look_at_storage()
    sign = heartbeat.read()["storage"]
    assert sign is not None
    assert sign.state == "ok"
