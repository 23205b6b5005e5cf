"""Maintenance of tables: compaction, retention and vacuum, also while others write."""

import os
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from django.conf import settings
from pytest_django import Settings

from config.common import clock
from datasets.schemas.fields import Field
from datasets.tables import layout, maintenance
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.layout import configuration
from datasets.tables.maintenance import tidy
from datasets.tables.table import DatasetTable
from tests.support.tables import FIELDS, GENERATION, a_table, append, files, ids, rows


def test_tidying_merges_files_and_keeps_rows_and_position(table: DatasetTable) -> None:
    for position in range(1, 31):
        append(table, rows(f"{position:02}"), position)
    before = ids(table)
    assert len(table.delta.file_uris()) == 30
    tidy(table)
    after = a_table()
    assert len(after.delta.file_uris()) == 1
    assert ids(after) == before
    assert (after.watermark(GENERATION), after.stored(GENERATION)) == (30, 30)


def test_tidying_a_tidy_table_commits_nothing(table: DatasetTable) -> None:
    append(table, rows("a"), 1)
    tidy(table)
    version = a_table().delta.version()
    tidy(table)
    assert a_table().delta.version() == version


def test_tidying_a_missing_table_does_nothing() -> None:
    tidy(DatasetTable(7, 13))
    assert not DatasetTable(7, 13).refresh()


def test_only_appends_delete_expired_log_files(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """If two writers delete log files at the same time, one finds a file missing and fails after its commit."""
    settings.RETENTION_DAYS = 1
    short = {"delta.checkpointInterval": "1", "delta.logRetentionDuration": "interval 0 seconds"}
    monkeypatch.setattr(layout, "configuration", lambda: {**configuration(), **short})
    monkeypatch.setattr(layout, "COMMITS_PER_CHECKPOINT", 1)
    table = DatasetTable(7, 14)
    table.create(FIELDS)
    append(table, rows("a", day=date(2020, 1, 1)), 1)
    append(table, rows("b"), 2)
    append(table, rows("c"), 3)
    log = Path(table.uri) / "_delta_log"
    before = set(log.glob("*.json"))
    version = table.delta.version()
    tidy(table, sweep=True)
    table.refresh()
    assert table.delta.version() >= version + 3  # a change of properties, a compaction, and a deleted day
    assert before <= set(log.glob("*.json"))
    append(table, rows("d"), 4)
    assert not before & set(log.glob("*.json"))


@pytest.mark.parametrize("step", ["_refuse_earlier_compactions", "_has_files_to_merge", "_compact"])
def test_one_of_two_concurrent_compactions_is_refused(
    table: DatasetTable, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(table, rows("a"), 1)
    append(table, rows("b"), 2)
    original = getattr(maintenance, step)

    def after_the_other(delta: DeltaTable) -> Any:
        monkeypatch.setattr(maintenance, step, original)
        tidy(a_table())
        return original(delta)

    monkeypatch.setattr(maintenance, step, after_the_other)
    with pytest.raises(ConcurrentCommit):
        tidy(DatasetTable(7, 13))
    assert ids(table) == ["a", "b"]
    append(table, rows("c"), 3)
    tidy(table)
    assert ids(table) == ["a", "b", "c"]
    assert len(table.delta.file_uris()) == 1


def test_a_compaction_does_not_restore_deleted_days(table: DatasetTable, monkeypatch: pytest.MonkeyPatch) -> None:
    append(table, rows("old", day=date(1990, 1, 1)), 1)
    append(table, rows("older", day=date(1990, 1, 1)), 2)
    late = a_table()
    monkeypatch.setattr(late, "refresh", lambda: True)
    with monkeypatch.context() as with_retention:
        with_retention.setattr(settings, "RETENTION_DAYS", 30)
        tidy(table)
    with pytest.raises(ConcurrentCommit):
        tidy(late)
    assert ids(table) == []


def test_a_commit_begun_before_a_compaction_is_repeated(table: DatasetTable) -> None:
    append(table, rows("a"), 1)
    append(table, rows("b"), 2)
    writer = a_table()
    tidy(table)
    with pytest.raises(ConcurrentCommit):
        writer.append(rows("c"), generation=GENERATION, watermark=3, stored=3)
    append(writer, rows("c"), 3)
    assert ids(table) == ["a", "b", "c"]


def test_commits_during_a_compaction_do_not_stop_it(table: DatasetTable, monkeypatch: pytest.MonkeyPatch) -> None:
    append(table, rows("a"), 1)
    append(table, rows("b"), 2)
    compact = maintenance._compact

    def after_a_commit(delta: DeltaTable) -> None:
        append(a_table(), rows("c"), 3)
        compact(delta)

    monkeypatch.setattr(maintenance, "_compact", after_a_commit)
    tidy(table)
    assert ids(table) == ["a", "b", "c"]
    assert len(table.delta.file_uris()) == 2


def test_retention_deletes_whole_days_beyond_the_limit(table: DatasetTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "RETENTION_DAYS", 30)
    today = clock.now().date()
    for position, age in enumerate((32, 31, 30, 29, 0), start=1):
        append(table, rows(f"{age} days", day=today - timedelta(days=age)), position)
    tidy(table)
    assert ids(table) == ["0 days", "29 days", "30 days"]
    assert (table.watermark(GENERATION), table.stored(GENERATION)) == (5, 5)


def test_without_retention_nothing_is_deleted(table: DatasetTable) -> None:
    append(table, rows("old", day=date(1990, 1, 1)), 1)
    tidy(table)
    assert ids(table) == ["old"]


def test_vacuum_deletes_replaced_files_after_vacuum_retention_hours(
    table: DatasetTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(table, rows("a"), 1)
    append(table, rows("b"), 2)
    tidy(table)
    assert len(files(table)) == 3  # readers of the previous version may still need two of the files
    monkeypatch.setattr(settings, "VACUUM_RETENTION_HOURS", 0)
    tidy(table)
    assert len(files(table)) == 1
    assert ids(table) == ["a", "b"]


def test_the_log_lists_removed_files_until_vacuum(table: DatasetTable, settings: Settings) -> None:
    """Each checkpoint lists the removed files. With delta-rs's default of a week, a busy table would list a million."""

    def remembered() -> str | None:
        return a_table().delta.metadata().configuration["delta.deletedFileRetentionDuration"]

    assert remembered() == "interval 25 hours"
    settings.VACUUM_RETENTION_HOURS = 72
    append(table, rows("a"), 1)
    append(table, rows("b"), 2)
    tidy(table)
    assert remembered() == "interval 73 hours"


def test_vacuum_deletes_files_that_a_dead_drain_left(table: DatasetTable, monkeypatch: pytest.MonkeyPatch) -> None:
    append(table, rows("a"), 1)
    (committed,) = files(table)
    orphan = committed.with_name("part-00000-orphan-c000.snappy.parquet")
    orphan.write_bytes(committed.read_bytes())
    tidy(table, sweep=True)
    assert orphan.exists()  # the writer of this file may still commit it
    days_ago = time.time() - 3 * 24 * 3600
    os.utime(orphan, (days_ago, days_ago))
    tidy(table, sweep=True)
    assert files(table) == {committed}


def comments(table: DatasetTable) -> dict[str, str]:
    """Return the comments of a table's columns, as other readers of Delta Lake see them."""
    columns = DeltaTable(table.uri).schema().fields
    return {column.name: column.metadata["comment"] for column in columns if column.metadata.get("comment")}


def test_descriptions_and_units_become_comments_of_columns() -> None:
    table = DatasetTable(7, 15)
    amount = Field("Amount", "number", 'what was "paid"', unit="EUR")
    table.create([amount, Field("note", "string", optional=True)])
    assert comments(table) == {"Amount": 'what was "paid" [EUR]'}
    append(table, rows("a"), 1)
    tidy(table, [amount, Field("note", "string", unit="words"), Field("not_yet", "string", "without a column")])
    assert comments(table) == {"Amount": 'what was "paid" [EUR]', "note": "[words]"}
    tidy(table, [Field("Amount", "number"), Field("note", "string", unit="words")])
    assert comments(table) == {"note": "[words]"}
