"""Appends to a table in a directory are made without delta-rs. Other readers and writers of Delta Lake accept them."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from django.conf import settings

from datasets.schemas.fields import Field
from datasets.tables import data_files, log
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.layout import COMMITS_PER_CHECKPOINT, PARTITION
from datasets.tables.maintenance import tidy
from datasets.tables.storage import TableGone
from datasets.tables.table import DatasetTable
from tests.support.tables import GENERATION, a_table, append, files, ids, rows
from tests.support.tables import UTC as UTC_TYPE


def engines(table: DatasetTable) -> list[str]:
    """Return the program that made each commit of a table, from the first to the last."""
    history = deltalake.DeltaTable(table.uri).history()
    return ["ours" if each["engineInfo"] == "dataset-ingest" else "delta-rs" for each in reversed(history)]


# -- what is written ----------------------------------------------------------------------------------


def test_delta_rs_reads_the_rows(table: DatasetTable) -> None:
    append(table, rows("a", "b"), 1)
    append(table, rows("c"), 2)
    assert engines(table) == ["delta-rs", "ours", "ours"]
    assert ids(table) == ["a", "b", "c"]


def test_a_file_and_its_statistics_are_like_those_of_delta_rs(table: DatasetTable) -> None:
    moments = pa.array([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)], UTC_TYPE)
    data = rows("a", "b").set_column(3, "timestamp", moments)
    append(table, data, 1)
    deltalake.write_deltalake(table.uri, data, mode="append", schema_mode="merge")
    ours, theirs = _added(table, 1), _added(table, 2)
    assert ours.keys() <= theirs.keys()
    assert ours["partitionValues"] == theirs["partitionValues"] == {PARTITION: "2026-06-10"}
    assert ours["size"] == os.stat(f"{table.uri}/{ours['path']}").st_size
    mine, other = json.loads(ours["stats"]), json.loads(theirs["stats"])
    assert mine["numRecords"] == other["numRecords"] == 2
    assert mine["nullCount"] == other["nullCount"]
    for bounds in ("minValues", "maxValues"):
        for name in ("timestamp", "ingested_at"):  # delta-rs writes only milliseconds
            exact, cut = (datetime.fromisoformat(each[bounds].pop(name)) for each in (mine, other))
            assert timedelta(0) <= exact - cut < timedelta(milliseconds=1)
        assert mine[bounds] == other[bounds]


def _added(table: DatasetTable, version: int) -> dict[str, Any]:
    actions = log.read_commit(table.uri, version)
    assert actions is not None
    [added] = [each["add"] for each in actions if "add" in each]
    return dict(added)


def test_a_long_text_is_not_in_the_log(table: DatasetTable) -> None:
    append(table, rows("a" * 65), 1)
    assert "id" not in json.loads(_added(table, 1)["stats"])["minValues"]
    assert ids(table) == ["a" * 65]


def test_a_column_that_the_rows_lack_is_null(table: DatasetTable) -> None:
    append(table, rows("a", Plan=["pro"]), 1)
    append(table, rows("b"), 2)
    assert engines(table) == ["delta-rs", "delta-rs", "ours"]
    assert a_table().delta.to_pyarrow_table().sort_by("id")["Plan"].to_pylist() == ["pro", None]


def test_delta_rs_makes_each_checkpoint(table: DatasetTable) -> None:
    for position in range(1, 2 * COMMITS_PER_CHECKPOINT + 2):
        append(table, rows(f"{position:03}"), position)
    checkpoints = sorted(path.name[:20] for path in (Path(table.uri) / "_delta_log").glob("*.checkpoint.parquet"))
    assert [int(each) for each in checkpoints] == [COMMITS_PER_CHECKPOINT - 1, 2 * COMMITS_PER_CHECKPOINT - 1]
    assert engines(table).count("delta-rs") == 3
    assert len(ids(a_table())) == a_table().stored(GENERATION) == 2 * COMMITS_PER_CHECKPOINT + 1


def test_rows_of_two_days_are_left_to_delta_rs(table: DatasetTable) -> None:
    both = pa.concat_tables([rows("a"), rows("b", day=date(2026, 6, 11))])
    append(table, both, 1)
    assert engines(table) == ["delta-rs", "delta-rs"]
    assert ids(table) == ["a", "b"]


def test_compaction_merges_our_files(table: DatasetTable) -> None:
    for position in range(1, 6):
        append(table, rows(f"{position}"), position)
    tidy(a_table())
    append(table, rows("6"), 6)
    assert engines(table)[-1] == "ours"
    assert len(a_table().delta.file_uris()) == 2
    assert ids(a_table()) == ["1", "2", "3", "4", "5", "6"]


def test_a_column_may_have_a_comment(table: DatasetTable) -> None:
    append(table, rows("a"), 1)
    tidy(a_table(), [Field("Amount", "number", 'what was "paid"', unit="EUR")])
    for name in ("b", "c"):
        append(table, rows(name), ord(name))
    assert engines(table) == ["delta-rs", "ours", "delta-rs", "ours", "ours"]
    (comment,) = [each.metadata for each in a_table().delta.schema().fields if each.metadata]
    assert comment == {"comment": 'what was "paid" [EUR]'}


# -- tables that are not as we make them ---------------------------------------------------------------


def _with_constraint(delta: deltalake.DeltaTable) -> None:
    delta.alter.add_constraint({"few": "Amount < 1000"})


def _with_property(delta: deltalake.DeltaTable) -> None:
    delta.alter.set_table_properties({"delta.dataSkippingNumIndexedCols": "2"})


def _with_metadata(delta: deltalake.DeltaTable) -> None:
    delta.alter.set_column_metadata("Amount", {"unit": "EUR"})


@pytest.mark.parametrize("change", [_with_constraint, _with_property, _with_metadata])
def test_only_delta_rs_appends_to_a_table_that_somebody_has_changed(
    table: DatasetTable, change: Callable[[deltalake.DeltaTable], None]
) -> None:
    append(table, rows("a"), 1)
    change(deltalake.DeltaTable(table.uri))
    append(table, rows("b"), 2)
    append(table, rows("c"), 3)
    assert engines(table) == ["delta-rs", "ours", "delta-rs", "delta-rs", "delta-rs"]
    assert ids(table) == ["a", "b", "c"]


# -- other writers ------------------------------------------------------------------------------------


def test_a_known_table_reads_only_what_is_new(table: DatasetTable, monkeypatch: pytest.MonkeyPatch) -> None:
    append(table, rows("a"), 1)
    append(a_table(), rows("b"), 2)
    opened: list[object] = []
    monkeypatch.setattr(DatasetTable, "_open", opened.append)
    table.refresh()
    assert (table.watermark(GENERATION), table.stored(GENERATION), opened) == (2, 2, [])


@pytest.mark.parametrize("other", [1, "add a property"])
def test_an_append_after_any_other_commit_is_refused(table: DatasetTable, other: object) -> None:
    append(table, rows("a"), 1)
    table.refresh()
    if other == 1:
        deltalake.write_deltalake(table.uri, rows("x"), mode="append", schema_mode="merge")
    else:
        _with_property(deltalake.DeltaTable(table.uri))
    with pytest.raises(ConcurrentCommit):
        table.append(rows("b"), generation=GENERATION, watermark=2, stored=2)
    assert len(files(table)) == (2 if other == 1 else 1)  # the file of the refused commit is deleted
    append(table, rows("b"), 2)
    assert ids(table) == (["a", "b", "x"] if other == 1 else ["a", "b"])


def test_another_table_in_its_place_is_opened(table: DatasetTable) -> None:
    append(table, rows("a"), 1)
    append(table, rows("b"), 2)
    shutil.rmtree(table.uri)
    another = DatasetTable(7, 13)
    another.create([])
    append(another, rows("x"), 7)
    append(another, rows("y"), 8)
    table.refresh()
    assert (table.watermark(GENERATION), ids(table)) == (8, ["x", "y"])


def test_a_log_with_a_gap_is_opened_again(table: DatasetTable) -> None:
    """A process that knows version 1 must not read version 3 as the next version."""
    behind = a_table()
    for position in range(1, COMMITS_PER_CHECKPOINT + 4):
        append(table, rows(f"{position:03}"), position)
    for version in range(1, 4):
        os.unlink(f"{table.uri}/_delta_log/{version:020}.json")
    behind.refresh()
    assert behind.watermark(GENERATION) == COMMITS_PER_CHECKPOINT + 3
    append(behind, rows("last"), COMMITS_PER_CHECKPOINT + 4)
    assert len(ids(a_table())) == COMMITS_PER_CHECKPOINT + 4


@pytest.mark.parametrize("what", ["a file of rows", "the log"])
def test_a_table_deleted_before_the_commit_stays_deleted(
    table: DatasetTable, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(table, rows("a"), 1)
    table.refresh()
    write = data_files.write

    def write_and_delete(*args: Any) -> Any:
        if what == "a file of rows":
            shutil.rmtree(table.uri)
            os.mkdir(table.uri)
        added = write(*args)
        shutil.rmtree(table.uri)
        return added

    monkeypatch.setattr(data_files, "write", write_and_delete)
    with pytest.raises(TableGone):
        table.append(rows("b"), generation=GENERATION, watermark=2, stored=2)
    assert not Path(table.uri, "_delta_log").exists()


def test_a_draft_of_a_dead_process_is_deleted_by_a_sweep(table: DatasetTable, monkeypatch: pytest.MonkeyPatch) -> None:
    append(table, rows("a"), 1)
    monkeypatch.setattr(os, "link", _die)
    monkeypatch.setattr(Path, "unlink", lambda self: None)
    with pytest.raises(KeyboardInterrupt):
        append(table, rows("b"), 2)
    monkeypatch.undo()
    [draft] = Path(table.uri).glob("commit-*")
    monkeypatch.setattr(settings, "VACUUM_RETENTION_HOURS", 0)
    tidy(a_table(), sweep=True)
    assert not draft.exists()
    assert (ids(table), len(files(table))) == (["a"], 1)


def _die(*_: object) -> None:
    raise KeyboardInterrupt
