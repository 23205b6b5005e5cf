"""A dataset's table: rows and position are in one commit, and neither is ever lost."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError, TableNotFoundError
from django.conf import settings

from datasets.models import Dataset
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.layout import COMMITS_PER_CHECKPOINT, PARTITION, base_columns, configuration
from datasets.tables.table import DatasetTable, cached_table
from tests.support.tables import FIELDS, GENERATION, a_table, append, ids, rows

# -- the log ------------------------------------------------------------------------------------------


def test_a_directory_keeps_a_short_log(table: DatasetTable) -> None:
    """Each commit lists the files of the log, so a long log would make commits slow."""
    log = Path(table.uri) / "_delta_log"
    first, last = 2 * COMMITS_PER_CHECKPOINT, 3 * COMMITS_PER_CHECKPOINT
    for position in range(1, first):
        append(table, None, position)
    half_an_hour_ago = time.time() - 1800
    # Let the first checkpoint expire, too: the files before the latest expired checkpoint are deleted.
    for file in log.iterdir():
        os.utime(file, (half_an_hour_ago, half_an_hour_ago))
    for position in range(first, last + 2):
        append(table, None, position)
    assert len(list(log.glob("*.json"))) < 1.2 * COMMITS_PER_CHECKPOINT
    assert a_table().watermark(GENERATION) == last + 1


def test_an_object_store_keeps_a_log_of_one_day(monkeypatch: pytest.MonkeyPatch, table: DatasetTable) -> None:
    assert table.delta.metadata().configuration["delta.logRetentionDuration"] == "interval 15 minutes"
    monkeypatch.setattr(settings, "STORAGE_URL", "s3://bucket/prefix")
    assert configuration()["delta.logRetentionDuration"] == "interval 1 days"


# -- one commit ---------------------------------------------------------------------------------------


def test_a_missing_table_raises() -> None:
    table = DatasetTable(7, 13)
    assert not table.refresh()
    assert not table.exists
    with pytest.raises(TableNotFoundError):
        table.watermark(GENERATION)


def test_a_new_table_has_columns_and_no_rows(table: DatasetTable) -> None:
    assert table.columns() == {
        **{field.name: field.type for field in base_columns()},
        "Amount": pa.float64(),
        PARTITION: pa.date32(),
    }
    assert ids(table) == []
    assert (table.watermark(GENERATION), table.stored(GENERATION)) == (0, 0)
    assert table.delta.metadata().partition_columns == [PARTITION]


def test_rows_and_position_are_committed_together(table: DatasetTable) -> None:
    append(table, rows("a", "b"), 100)
    other = a_table()
    assert (ids(other), other.watermark(GENERATION), other.stored(GENERATION)) == (["a", "b"], 100, 2)


def test_a_position_can_be_committed_without_rows(table: DatasetTable) -> None:
    append(table, rows("a"), 100)
    append(table, None, 200)
    other = a_table()
    assert (ids(other), other.watermark(GENERATION), other.stored(GENERATION)) == (["a"], 200, 1)


def test_each_generation_has_its_own_position(table: DatasetTable) -> None:
    append(table, rows("a"), 100)
    table.refresh()
    table.append(rows("b"), generation="other", watermark=7, stored=1)
    other = a_table()
    assert (other.watermark(GENERATION), other.watermark("other"), other.watermark("third")) == (100, 7, 0)


def test_a_position_holds_the_largest_stream_id(table: DatasetTable) -> None:
    largest = (4_000_000_000_000 << 20) | (2**20 - 1)  # the last position of a millisecond in the year 2096
    append(table, rows("a"), largest)
    assert a_table().watermark(GENERATION) == largest


def test_a_new_column_is_null_in_older_rows(table: DatasetTable) -> None:
    append(table, rows("a"), 1)
    append(table, rows("b", Plan=["pro"]), 2)
    append(table, rows("c"), 3)
    found = a_table().delta.to_pyarrow_table().sort_by("id").select(["id", "Plan"]).to_pylist()
    assert [row["Plan"] for row in found] == [None, "pro", None]


def test_rows_that_do_not_fit_a_column_are_refused(table: DatasetTable) -> None:
    append(table, rows("a"), 1)
    wrong = rows("b").set_column(7, "Amount", pa.array([[1]]))
    with pytest.raises(DeltaError):
        append(table, wrong, 2)
    assert (ids(table), a_table().watermark(GENERATION)) == (["a"], 1)


# -- two writers --------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[], pa.Table | None]] = {
    "rows": lambda: rows("x"),
    "nothing": lambda: None,
    "a new column": lambda: rows("x", Plan=["pro"]),
}


@pytest.mark.parametrize("second", WRITES)
@pytest.mark.parametrize("first", WRITES)
def test_the_second_commit_for_the_same_queue_is_refused(table: DatasetTable, first: str, second: str) -> None:
    append(table, rows("a"), 1)
    faster, slower = a_table(), a_table()
    faster.append(WRITES[first](), generation=GENERATION, watermark=2, stored=2)
    with pytest.raises(ConcurrentCommit):
        slower.append(WRITES[second](), generation=GENERATION, watermark=2, stored=2)
    expected = ["a"] if first == "nothing" else ["a", "x"]
    assert (ids(table), table.watermark(GENERATION), table.stored(GENERATION)) == (expected, 2, 2)
    # After a refresh the slower writer can commit.
    append(slower, rows("b"), 3)
    assert ids(table) == sorted([*expected, "b"])


def test_one_of_several_concurrent_commits_succeeds(table: DatasetTable) -> None:
    for position in range(1, 21):
        writers = [a_table() for _ in range(3)]
        together = Barrier(len(writers))

        def commit(
            number: int, writers: list[DatasetTable] = writers, position: int = position, together: Barrier = together
        ) -> bool:
            together.wait()
            try:
                writers[number].append(
                    rows(f"{position:02}-{number}"), generation=GENERATION, watermark=position, stored=position
                )
            except ConcurrentCommit:
                return False
            return True

        with ThreadPoolExecutor(len(writers)) as pool:
            assert sum(pool.map(commit, range(len(writers)))) == 1
    assert len(ids(table)) == 20


def test_concurrent_writers_create_a_table_once() -> None:
    for dataset_id in range(100, 130):
        writers = [DatasetTable(7, dataset_id) for _ in range(3)]
        together = Barrier(len(writers))

        def create(number: int, writers: list[DatasetTable] = writers, together: Barrier = together) -> None:
            together.wait()
            writers[number].create(FIELDS)

        with ThreadPoolExecutor(len(writers)) as pool:
            list(pool.map(create, range(len(writers))))
        assert [writer.delta.version() for writer in writers] == [0, 0, 0]


def test_a_table_that_cannot_be_created_raises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setattr(settings, "STORAGE_URL", str(tmp_path / "file"))
    with pytest.raises((OSError, DeltaError)):
        DatasetTable(7, 13).create(FIELDS)


def test_a_handle_is_correct_after_a_failed_commit(table: DatasetTable) -> None:
    append(table, rows("a"), 1)
    log = Path(table.uri) / "_delta_log"
    parked = log.rename(log.with_name("parked"))
    log.write_text("the storage is broken")
    with pytest.raises((OSError, DeltaError)):
        table.append(rows("b"), generation=GENERATION, watermark=2, stored=2)
    log.unlink()
    parked.rename(log)
    assert table.refresh()
    assert (table.watermark(GENERATION), ids(table)) == (1, ["a"])
    append(table, rows("b"), 2)
    assert ids(table) == ["a", "b"]


# -- the log ------------------------------------------------------------------------------------------


def test_the_position_survives_checkpoints_and_log_cleanup(table: DatasetTable) -> None:
    left_behind = a_table()
    last = COMMITS_PER_CHECKPOINT + 5
    for position in range(1, last + 1):
        append(table, rows(f"{position:03}"), position)
    log = Path(table.uri) / "_delta_log"
    assert len(list(log.glob("*.checkpoint.parquet"))) == 1
    days_ago = time.time() - 3 * 24 * 3600
    for path in log.iterdir():
        os.utime(path, (days_ago, days_ago))
    table.delta.cleanup_metadata()
    assert not (log / f"{0:020}.json").exists()

    fresh = a_table()
    assert (fresh.watermark(GENERATION), fresh.stored(GENERATION), len(ids(fresh))) == (last, last, last)
    # This handle was last refreshed before the oldest remaining commit.
    left_behind.refresh()
    assert (left_behind.watermark(GENERATION), left_behind.delta.version()) == (last, last)
    append(left_behind, rows("more"), last + 1)
    assert len(ids(a_table())) == last + 1


def test_a_handle_in_an_object_store_is_reopened_after_many_commits(
    monkeypatch: pytest.MonkeyPatch, table: DatasetTable
) -> None:
    """delta-rs keeps some memory for each commit. After 800 commits, the next commit took five times as long."""
    monkeypatch.setattr("datasets.tables.table.is_directory", lambda: False)
    table = a_table()
    opened = [table.delta]
    for position in range(1, 3 * COMMITS_PER_CHECKPOINT + 1):
        append(table, rows(f"{position:03}"), position)
        table.refresh()
        if table.delta is not opened[-1]:
            opened.append(table.delta)
    assert len(opened) == 4


def test_a_handle_stays_open_between_drains(table: DatasetTable) -> None:
    one, another = (Dataset(pk=number, project_id=7) for number in (999, 998))
    cached = cached_table(one)
    assert cached_table(one) is cached
    assert cached_table(another) is not cached


def test_a_refresh_reads_commits_of_other_processes(table: DatasetTable) -> None:
    cached = DatasetTable(7, 13)
    cached.refresh()
    append(a_table(), rows("a"), 5)
    assert cached.watermark(GENERATION) == 0
    cached.refresh()
    assert cached.watermark(GENERATION) == 5
