"""A table belongs to one dataset. Another dataset with the same ID neither shows the table nor writes to it."""

import json
import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from datasets import services
from datasets.models import Dataset, Project, SchemaVersion
from datasets.tables.storage import ForeignTable
from datasets.tables.table import DatasetTable
from ingest.monitoring import health
from ingest.monitoring.diagnosis import findings
from ingest.storing import upkeep
from ingest.storing.drain import drain
from ingest.storing.ledger import audit, balance
from tests.conftest import FIELDS, Api
from tests.support.entries import counters, in_stream, let_the_lock_expire, names_in_table, send, table_of
from tests.support.processes.crashing import drain_dying, finish, start


def restored_without(dataset: Dataset) -> Dataset:
    """Restore a database from before the dataset was created, and create another dataset, which gets the same ID."""
    SchemaVersion.objects.filter(dataset=dataset).delete()
    Dataset.objects.filter(pk=dataset.pk).delete()
    other = Dataset.objects.create(pk=dataset.pk, project=dataset.project, name="Other", slug="other")
    services.save_dataset(other, fields=FIELDS)
    return other


def version(dataset: Dataset) -> int:
    return table_of(dataset).version()


def from_before(dataset: Dataset, *, noted: bool = True) -> None:
    """Make the dataset and its table look as an older release left them: without a table ID."""
    Dataset.objects.filter(pk=dataset.pk).update(table_id=None, has_table=noted)
    log = Path(DatasetTable.of(dataset).uri) / "_delta_log"
    for commit in log.glob("*.json"):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            if "metaData" in action:
                action["metaData"]["configuration"].pop("datasetIngest.tableId", None)
        commit.write_text("\n".join(map(json.dumps, actions)) + "\n")


def test_table_of_another_dataset_is_neither_shown_nor_written_to(api: Api, dataset: Dataset, owner: User) -> None:
    send(api, "of a former tenant")
    drain(dataset.pk)
    other = restored_without(dataset)
    before = version(dataset)
    send(Api(api.token, other), "new")
    counted = counters(other)
    User.objects.update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))

    with pytest.raises(ForeignTable, match="made for another dataset"):
        drain(other.pk)
    assert (in_stream(other), counters(other)) == (1, counted), "the queue keeps the entry"
    with pytest.raises(ForeignTable):
        balance(other)
    assert audit([other], seconds=60).unchecked == 1
    for arguments in (["records", str(other.pk)], ["records", str(other.pk), "--format", "ndjson"]):
        with pytest.raises(CommandError, match="made for another dataset"):
            call_command(*arguments)
    with pytest.raises(SystemExit):
        call_command("ledger")
    page = client.get(reverse("admin:ingest_datasetrecords_change", args=[other.pk]))
    export = client.get(reverse("admin:ingest_datasetrecords_export", args=[other.pk, "csv"]))
    for each in (page, export, client.get(reverse("admin:ingest_ledger"))):
        assert "made for another dataset" in each.content.decode()
        assert "of a former tenant" not in each.content.decode()
    assert export.status_code == 503
    assert any("belongs to another dataset. 1 record waits" in each.text for each in findings(other.project))
    upkeep.tidy_tables(everything=True)
    assert version(dataset) == before, "nothing was written"


def test_readyz_reports_tables_of_another_database(api: Api, dataset: Dataset, project: Project) -> None:
    send(api, "a")
    drain(dataset.pk)
    health.look_at_storage()
    assert health.checks()["storage"] == "ok"
    Dataset.objects.filter(pk=dataset.pk).update(table_id=uuid4())
    health.look_at_storage()
    assert "is this the right database" in health.checks()["storage"]
    fresh = services.create_dataset(project=project, name="Fresh", fields=FIELDS)
    send(Api(api.token, fresh), "x")
    with pytest.raises(ForeignTable):
        drain(fresh.pk)
    assert not DatasetTable(project.pk, fresh.pk).refresh(), "nothing is written to this storage"


def test_drain_continues_after_the_foreign_table_is_deleted(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    other = restored_without(dataset)
    send(Api(api.token, other), "b")
    with pytest.raises(ForeignTable):
        drain(other.pk)
    shutil.rmtree(DatasetTable.of(other).uri)
    assert drain(other.pk) == 1
    assert names_in_table(other) == ["b"]


def test_restored_database_finds_its_table_again(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    dataset.refresh_from_db()
    Dataset.objects.filter(pk=dataset.pk).update(table_id=uuid4())
    with pytest.raises(ForeignTable):
        balance(Dataset.objects.get(pk=dataset.pk))
    Dataset.objects.filter(pk=dataset.pk).update(table_id=dataset.table_id, has_table=False)
    send(api, "b")
    drain(dataset.pk)
    assert names_in_table(dataset) == ["a", "b"]


def test_compaction_and_new_columns_keep_the_table_id(api: Api, dataset: Dataset) -> None:
    for name in ("a", "b", "c"):
        send(api, name)
        drain(dataset.pk)
    upkeep.tidy_tables(everything=True)
    services.save_dataset(dataset, fields=FIELDS[:2])
    dataset.refresh_from_db()
    assert DatasetTable.of(dataset).refresh()
    table = DatasetTable.of(dataset)
    table.refresh()
    assert table.table_id == str(dataset.table_id)


def test_table_created_by_a_killed_drain_belongs_to_its_dataset(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    finish(start(drain_dying, "after the table was created", dataset.pk))
    let_the_lock_expire(dataset)
    assert drain(dataset.pk) == 1
    assert names_in_table(dataset) == ["a"]


@pytest.mark.parametrize("noted", [True, False])
def test_table_without_a_table_id_is_adopted_once(api: Api, dataset: Dataset, noted: bool) -> None:
    send(api, "a")
    drain(dataset.pk)
    from_before(dataset, noted=noted)
    assert balance(Dataset.objects.get(pk=dataset.pk)).stored == 1, "the table can be read before it is adopted"
    send(api, "b")
    drain(dataset.pk)
    dataset.refresh_from_db()
    table = DatasetTable.of(dataset)
    assert table.refresh()
    assert table.table_id == str(dataset.table_id)
    assert names_in_table(dataset) == ["a", "b"]
    other = restored_without(dataset)
    with pytest.raises(ForeignTable):
        DatasetTable.of(other).refresh()


@pytest.mark.parametrize("step", ["before the table is bound", "after the table was bound"])
def test_next_drain_completes_a_drain_that_was_killed_while_it_adopted_a_table(
    api: Api, dataset: Dataset, step: str
) -> None:
    send(api, "a")
    drain(dataset.pk)
    from_before(dataset, noted=False)
    send(api, "b")
    assert finish(start(drain_dying, step, dataset.pk)) < 0
    let_the_lock_expire(dataset)
    drain(dataset.pk)
    assert names_in_table(dataset) == ["a", "b"]


def test_new_dataset_does_not_adopt_a_table_without_an_id(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    from_before(dataset)
    other = restored_without(dataset)
    send(Api(api.token, other), "b")
    with pytest.raises(ForeignTable):
        drain(other.pk)


def test_old_table_is_foreign_after_new_table(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    uri = Path(DatasetTable.of(dataset).uri)
    uri.rename(uri.with_name("deleted"))
    call_command("new_table", str(dataset.pk))
    send(api, "b")
    drain(dataset.pk)
    assert names_in_table(dataset) == ["b"]
    shutil.rmtree(uri)
    uri.with_name("deleted").rename(uri)
    send(api, "c")
    with pytest.raises(ForeignTable):
        drain(dataset.pk)


def test_take_over_keeps_the_table_of_another_dataset(api: Api, dataset: Dataset) -> None:
    with pytest.raises(CommandError, match="there is no table at its path that belongs to another dataset"):
        call_command("new_table", str(dataset.pk), "--take-over")
    send(api, "a")
    drain(dataset.pk)
    Dataset.objects.filter(pk=dataset.pk).update(table_id=uuid4())
    send(api, "b")
    with pytest.raises(ForeignTable):
        drain(dataset.pk)
    call_command("new_table", str(dataset.pk), "--take-over")
    drain(dataset.pk)
    assert names_in_table(dataset) == ["a", "b"]
