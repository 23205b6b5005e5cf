"""The storage is missing. A disk that is not mounted looks like one on which no table was ever created."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deltalake.exceptions import DeltaError
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from config.common import redis
from datasets import installation, services
from datasets.models import Dataset, Installation, Project
from datasets.tables import table
from datasets.tables.storage import TableGone
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.monitoring import health
from ingest.queue import redis_keys
from ingest.storing import untidy, upkeep
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from tests.conftest import FIELDS, Api
from tests.support.entries import counters, enqueue, in_stream, let_the_lock_expire, names_in_table, send, status
from tests.support.processes.crashing import drain_dying, finish, start
from tests.support.processes.signs import all_is_well


@contextmanager
def unmounted() -> Iterator[None]:
    """Make the storage root an empty mount point. Files that are written there are not on the disk."""
    _unmount()
    try:
        yield
    finally:
        _mount()


def _unmount() -> None:
    root = Path(settings.STORAGE_URL)
    root.rename(root.with_name("disk"))
    root.mkdir()


def _mount() -> None:
    root = Path(settings.STORAGE_URL)
    shutil.rmtree(root)
    root.with_name("disk").rename(root)


def new_in_this_process(dataset: Dataset) -> None:
    """Act as a worker that has just started and has no table open."""
    table._open.clear()


def known_to_this_process(dataset: Dataset) -> None:
    assert dataset.pk in table._open


@pytest.mark.parametrize("worker", [new_in_this_process, known_to_this_process])
def test_queue_keeps_its_entries_while_the_disk_is_missing(
    api: Api, dataset: Dataset, worker: Callable[[Dataset], None]
) -> None:
    send(api, "a")
    drain(dataset.pk)
    accepted = send(api, "b")
    before = counters(dataset)
    worker(dataset)
    with unmounted():
        for _ in range(2):
            with pytest.raises(TableGone):
                drain(dataset.pk)
        assert list(Path(settings.STORAGE_URL).iterdir()) == []
        assert counters(dataset) == before
        assert status(api, accepted)["status"] == "queued"
        with pytest.raises(TableGone):
            balance(Dataset.objects.get(pk=dataset.pk))
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["a", "b"]
    assert balance(dataset).adds_up


def test_no_table_is_created_while_the_disk_is_missing(api: Api, dataset: Dataset, project: Project) -> None:
    send(api, "a")
    drain(dataset.pk)
    fresh = services.create_dataset(project=project, name="Fresh", fields=FIELDS)
    send(Api(api.token, fresh), "x")
    with unmounted():
        with pytest.raises(TableGone, match="is the storage mounted"):
            drain(fresh.pk)
        assert list(Path(settings.STORAGE_URL).iterdir()) == []
    assert drain(fresh.pk) == 1
    assert names_in_table(fresh) == ["x"]


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
@pytest.mark.parametrize("entry", ["record", "poison"])
def test_disk_lost_during_a_drain_has_the_whole_commit_or_none(
    api: Api, dataset: Dataset, moment: str, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a")
    drain(dataset.pk)
    if entry == "record":
        send(api, "b")
    else:
        enqueue(dataset, b"{")
    original = DatasetTable._commit

    def while_it_goes(self: DatasetTable, *args: Any) -> None:
        if moment == "before the commit":
            _unmount()
        original(self, *args)
        if moment == "after the commit":
            _unmount()

    monkeypatch.setattr(DatasetTable, "_commit", while_it_goes)
    with pytest.raises((TableGone, DeltaError)):
        drain(dataset.pk)
    monkeypatch.undo()
    assert in_stream(dataset) == 1
    _mount()
    drain(dataset.pk)
    assert in_stream(dataset) == 0
    assert names_in_table(dataset) == (["a", "b"] if entry == "record" else ["a"])
    assert QuarantinedEntry.objects.count() == (entry == "poison")
    assert balance(dataset).adds_up


def test_next_drain_uses_the_table_of_a_killed_drain(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    finish(start(drain_dying, "after the table was created", dataset.pk))
    dataset.refresh_from_db()
    assert not dataset.has_table
    let_the_lock_expire(dataset)
    assert drain(dataset.pk) == 1
    dataset.refresh_from_db()
    assert dataset.has_table
    assert names_in_table(dataset) == ["a"]


def test_has_table_is_noted_before_rows_are_written(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a")

    def fail(dataset: Dataset) -> None:
        raise OSError("no database")

    monkeypatch.setattr(services, "note_table", fail)
    with pytest.raises(OSError, match="no database"):
        drain(dataset.pk)
    assert names_in_table(dataset) == []


def test_next_drain_notes_an_existing_table(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    Dataset.objects.update(has_table=False)
    send(api, "b")
    drain(dataset.pk)
    dataset.refresh_from_db()
    assert dataset.has_table
    assert names_in_table(dataset) == ["a", "b"]


def test_saving_an_older_dataset_page_keeps_the_note(api: Api, dataset: Dataset) -> None:
    stale = Dataset.objects.get(pk=dataset.pk)
    send(api, "a")
    drain(dataset.pk)
    stale.description = "of this year"
    services.save_dataset(stale, changed=["description"])
    dataset.refresh_from_db()
    assert (dataset.has_table, dataset.description) == (True, "of this year")


def test_readyz_admin_and_command_report_a_missing_storage(api: Api, dataset: Dataset, owner: User) -> None:
    send(api, "a")
    drain(dataset.pk)
    User.objects.update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    with unmounted():
        all_is_well()
        assert "is the storage mounted?" in health.checks()["storage"]
        assert "is the storage mounted?" in client.get(reverse("admin:index")).content.decode()
        page = client.get(reverse("admin:ingest_datasetrecords_change", args=[dataset.pk]))
        export = client.get(reverse("admin:ingest_datasetrecords_export", args=[dataset.pk, "csv"]))
        assert (page.status_code, export.status_code) == (200, 503)
        for each in (client.get(reverse("admin:ingest_ledger")), page, export):
            assert "The table is gone" in each.content.decode()
        with pytest.raises(SystemExit):
            call_command("ledger")
        with pytest.raises(CommandError, match="is missing, but it existed before: check that the storage is mounted"):
            call_command("records", str(dataset.pk))
        upkeep.tidy_tables(everything=False)  # logs the failure, and continues
        assert untidy.dataset_ids() == [dataset.pk]
    all_is_well()
    assert health.checks()["storage"] == "ok"
    assert "is the storage mounted?" not in client.get(reverse("admin:index")).content.decode()


# -- the marker file ----------------------------------------------------------------------------------


def marker() -> Path:
    return Path(settings.STORAGE_URL) / f"installation-{installation.our_id()}"


def die_before_the_first_table_is_noted(api: Api, dataset: Dataset) -> None:
    """Run a drain that creates the installation's first table, and dies before the database knows it."""
    send(api, "a")
    assert finish(start(drain_dying, "after the table was created", dataset.pk)) < 0
    let_the_lock_expire(dataset)
    assert not Dataset.objects.filter(has_table=True).exists()


def test_disk_lost_before_the_first_commit_gets_no_second_table(api: Api, dataset: Dataset) -> None:
    die_before_the_first_table_is_noted(api, dataset)
    with unmounted():
        for _ in range(2):
            with pytest.raises(TableGone, match="is the storage mounted"):
                drain(dataset.pk)
        assert list(Path(settings.STORAGE_URL).iterdir()) == []
        health.look_at_storage()
        assert f"STORAGE_URL has no file {marker().name}: is the storage mounted?" in health.checks()["storage"]
    health.look_at_storage()
    assert health.checks()["storage"] == "ok"
    send(api, "b")
    assert drain(dataset.pk) == 2
    assert names_in_table(dataset) == ["a", "b"]
    assert balance(dataset).adds_up


@pytest.mark.parametrize("step", ["before the marker is noted", "after the marker was noted"])
def test_drain_killed_while_it_marks_the_storage_is_repeated(api: Api, dataset: Dataset, step: str) -> None:
    send(api, "a")
    assert finish(start(drain_dying, step, dataset.pk)) < 0
    let_the_lock_expire(dataset)
    assert marker().exists()
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["a"]


def test_only_the_owner_can_read_the_marker(api: Api, dataset: Dataset) -> None:
    before = os.umask(0o022)
    try:
        send(api, "a")
        drain(dataset.pk)
    finally:
        os.umask(before)
    assert stat.S_IMODE(marker().stat().st_mode) == 0o600


def test_marker_of_another_installation_does_not_count(api: Api, dataset: Dataset) -> None:
    die_before_the_first_table_is_noted(api, dataset)
    with unmounted():
        marker().with_name("installation-0ddba110-0000-4000-8000-000000000000").touch()
        with pytest.raises(TableGone):
            drain(dataset.pk)


def test_operator_can_choose_another_storage_before_the_first_commit(api: Api, dataset: Dataset) -> None:
    die_before_the_first_table_is_noted(api, dataset)
    with unmounted():
        marker().touch()
        assert drain(dataset.pk) == 1
        assert names_in_table(dataset) == ["a"]


def test_storage_from_before_the_marker_gets_one_with_its_next_table(
    api: Api, dataset: Dataset, project: Project
) -> None:
    send(api, "a")
    drain(dataset.pk)
    marker().unlink()
    Installation.objects.update(storage_marked=False)
    fresh = services.create_dataset(project=project, name="Fresh", fields=FIELDS)
    send(Api(api.token, fresh), "x")
    assert drain(fresh.pk) == 1
    assert marker().exists()
    assert Installation.objects.get().storage_marked


def test_moved_tables_are_found_without_the_marker(api: Api, dataset: Dataset, project: Project) -> None:
    send(api, "a")
    drain(dataset.pk)
    marker().unlink()
    health.look_at_storage()
    assert health.checks()["storage"] == "ok"
    fresh = services.create_dataset(project=project, name="Fresh", fields=FIELDS)
    send(Api(api.token, fresh), "x")
    assert drain(fresh.pk) == 1


def test_restored_database_from_before_the_marker_uses_its_storage(api: Api, dataset: Dataset) -> None:
    die_before_the_first_table_is_noted(api, dataset)
    Installation.objects.update(storage_marked=False)
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["a"]


def test_new_table_on_a_new_disk_lets_other_datasets_continue(api: Api, dataset: Dataset, project: Project) -> None:
    send(api, "a")
    drain(dataset.pk)
    shutil.rmtree(settings.STORAGE_URL)
    fresh = services.create_dataset(project=project, name="Fresh", fields=FIELDS)
    send(Api(api.token, fresh), "x")
    with pytest.raises(TableGone):
        drain(fresh.pk)
    call_command("new_table", str(dataset.pk))
    assert drain(fresh.pk) == 1
    assert marker().exists()


# -- a table that was deleted on purpose --------------------------------------------------------------


def test_new_table_replaces_a_deleted_table(api: Api, dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    send(api, "a", "b")
    enqueue(dataset, b"{")
    drain(dataset.pk)
    send(api, "c")
    enqueue(dataset, b"[")
    shutil.rmtree(DatasetTable.of(dataset).uri)
    with pytest.raises(TableGone):
        drain(dataset.pk)
    call_command("new_table", str(dataset.pk))
    dataset.refresh_from_db()
    assert "new table" in capsys.readouterr().out
    now = balance(dataset)
    assert (now.accepted, now.stored, now.queued, now.quarantined, now.adds_up) == (5, 2, 2, 1, True)
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["c"]
    now = balance(dataset)
    assert (now.accepted, now.stored, now.queued, now.quarantined, now.adds_up) == (5, 3, 0, 2, True)


@pytest.mark.parametrize("queued", [True, False])
def test_new_table_keeps_the_count_of_stored_records(api: Api, dataset: Dataset, queued: bool) -> None:
    send(api, "a", "b", "c")
    drain(dataset.pk)
    if queued:
        send(api, "d")
    shutil.rmtree(DatasetTable.of(dataset).uri)
    call_command("new_table", str(dataset.pk))
    dataset.refresh_from_db()
    if not queued:
        send(api, "d")
    assert drain(dataset.pk) == 1
    assert (balance(dataset).stored, balance(dataset).adds_up) == (4, True)


def test_new_table_works_after_a_wipe_of_redis(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    redis.client().flushall()
    shutil.rmtree(DatasetTable.of(dataset).uri)
    call_command("new_table", str(dataset.pk))
    dataset.refresh_from_db()
    send(api, "b")
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["b"]
    assert balance(dataset).adds_up


def test_new_table_is_refused_unless_the_table_is_missing(api: Api, dataset: Dataset) -> None:
    with pytest.raises(CommandError, match="never had a table"):
        call_command("new_table", str(dataset.pk))
    send(api, "a")
    drain(dataset.pk)
    with pytest.raises(CommandError, match="the dataset still has its table"):
        call_command("new_table", str(dataset.pk))
    dataset.refresh_from_db()
    redis.client().set(redis_keys.lock(dataset.pk), "another")
    with pytest.raises(CommandError, match="a drain is writing to its table"):
        call_command("new_table", str(dataset.pk))
    with pytest.raises(CommandError, match="There is no dataset 0"):
        call_command("new_table", "0")
    assert names_in_table(dataset) == ["a"]
