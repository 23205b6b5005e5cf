"""Redis is restored from an older copy, or its clock is set back. Every record in Redis is stored exactly once."""

from typing import Any

import pytest
from deltalake import QueryBuilder
from redis.connection import AbstractConnection

from config.common import redis
from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import redis_keys, stream
from ingest.storing import ledger
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from ingest.storing.quarantine import replay
from tests.conftest import Api
from tests.support.entries import (
    counted,
    counters,
    enqueue,
    generation,
    in_stream,
    let_the_lock_expire,
    names_in_table,
    send,
    status,
    table_of,
)
from tests.support.processes.crashing import drain_dying, drain_without_lock, finish, start
from tests.support.servers.backups import HOUR, Backup, last_id, put_table_ahead, set_clock


def all_is_stored(dataset: Dataset, names: list[str], quarantined: int = 0) -> None:
    """Check that each name is in the table once, that the queue is empty, and that all counts agree."""
    assert sorted(names_in_table(dataset)) == sorted(names)
    assert in_stream(dataset) == 0
    now = balance(dataset)
    assert (now.accepted, now.queued, now.quarantined) == (len(names) + quarantined, 0, quarantined), now
    assert now.adds_up, now
    assert counters(dataset) == {"accepted": len(names) + quarantined, "queued": 0, "bytes": 0, "total": 0}


# -- Redis's clock is behind the watermark -----------------------------------------------------------------


def test_records_below_the_watermark_are_stored_once(api: Api, dataset: Dataset) -> None:
    """This happens after a failover to a replica that lacks the last entries, and whose clock is an hour behind."""
    send(api, "0")
    drain(dataset.pk)
    position = put_table_ahead(dataset, HOUR)
    names = [str(n) for n in range(21)]
    receipts = [send(api, name) for name in names[1:]]
    assert balance(dataset).queued == 20
    assert balance(dataset).adds_up

    assert drain(dataset.pk) == 20

    all_is_stored(dataset, names)
    assert {status(api, each)["status"] for each in receipts} == {"stored"}
    place = receipts[0].headers["Location"].rpartition("/")[2].split("-")
    assert f"{int(place[1]):013}-{int(place[2]):07}-00000" in ids_in_table(dataset), "the record keeps its own ID"
    assert stream.position_of(last_id(dataset)) >= position, "the next IDs are above the watermark"


def test_stream_continues_above_the_watermark(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    position = put_table_ahead(dataset, HOUR)
    send(api, "b")
    drain(dataset.pk)
    send(api, "c")
    (entry,) = stream.read(dataset.pk, generation())
    assert entry.position > position
    drain(dataset.pk)
    all_is_stored(dataset, ["a", "b", "c"])


def test_bad_entry_below_the_watermark_goes_to_quarantine(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    drain(dataset.pk)
    put_table_ahead(dataset, HOUR)
    send(api, "b")
    enqueue(dataset, b"{}")
    drain(dataset.pk)
    assert QuarantinedEntry.objects.count() == 1
    all_is_stored(dataset, ["a", "b"], quarantined=1)


def test_entries_below_the_watermark_are_stored_in_several_commits(api: Api, dataset: Dataset, settings: Any) -> None:
    settings.DRAIN_MAX_RECORDS = 3
    send(api, "a")
    drain(dataset.pk)
    put_table_ahead(dataset, HOUR)
    names = [str(n) for n in range(20)]
    for name in names:
        send(api, name)
    assert drain(dataset.pk) == 20
    all_is_stored(dataset, ["a", *names])


def test_more_than_a_million_entries_in_a_millisecond_are_stored(api: Api, dataset: Dataset) -> None:
    """After its clock was set back, Redis stays at one millisecond and only raises the sequence number."""
    send(api, "a")
    drain(dataset.pk)
    stream = redis_keys.stream(dataset.pk)
    now, _ = redis.client().time()
    moment = (now + 3600) * 1000
    names = ["a"]
    for seq in (2**20 - 2, 2**20 + 5, 2**21, 2**33):
        redis.client().execute_command("XSETID", stream, f"{moment}-{seq}")
        names += (f"{seq} first", f"{seq} second")
        send(api, names[-2])
        send(api, names[-1])
        enqueue(dataset, b"{}")
        assert balance(dataset).adds_up
        assert balance(dataset).queued == 3
        drain(dataset.pk)
        assert int(last_id(dataset).partition("-")[0]) > moment, "the stream continues in another millisecond"
        moment += 1
    assert QuarantinedEntry.objects.count() == 4
    all_is_stored(dataset, names, quarantined=4)


def test_stream_leaves_a_millisecond_before_its_numbers_run_out(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    set_clock(dataset, HOUR)
    ms = int(last_id(dataset).partition("-")[0])
    redis.client().execute_command("XSETID", redis_keys.stream(dataset.pk), f"{ms}-{2**19 - 1}")
    send(api, "b")
    drain(dataset.pk)
    assert last_id(dataset) == f"{ms + 1}-0"
    send(api, "c")
    drain(dataset.pk)
    all_is_stored(dataset, ["a", "b", "c"])


# -- Redis is restored from an older copy -----------------------------------------------------


def test_entries_that_return_with_the_copy_are_not_stored_again(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    enqueue(dataset, b"{}")
    send(api, "b")
    backup = Backup.made()
    drain(dataset.pk)
    send(api, "c")
    drain(dataset.pk)

    backup.restore()

    now = balance(dataset)
    assert (now.stored, now.queued, now.quarantined) == (3, 0, 1)
    send(api, "d")
    drain(dataset.pk)
    assert QuarantinedEntry.objects.count() == 1
    all_is_stored(dataset, ["a", "b", "c", "d"], quarantined=1)


def test_only_records_that_redis_lost_before_storage_are_lost(api: Api, dataset: Dataset) -> None:
    send(api, "stored before the copy")
    drain(dataset.pk)
    send(api, "queued in the copy")
    backup = Backup.made()
    send(api, "stored after the copy")
    drain(dataset.pk)
    send(api, "forgotten")
    backup.restore()
    send(api, "new")
    drain(dataset.pk)
    all_is_stored(dataset, ["stored before the copy", "queued in the copy", "stored after the copy", "new"])


def test_ledger_with_a_missing_record_does_not_add_up_after_restore(api: Api, dataset: Dataset) -> None:
    """The recount adds stored records that Redis lost. It never lowers `accepted` to hide a missing record."""
    send(api, "a")
    backup = Backup.made()
    drain(dataset.pk)
    backup.restore()
    redis.client().incr(redis_keys.accepted(dataset.pk))
    send(api, "c")
    drain(dataset.pk)
    now = balance(dataset)
    assert (now.accepted, now.stored, now.queued, now.adds_up) == (3, 2, 0, False)


def test_record_with_the_id_of_a_stored_record_is_stored_too(api: Api, dataset: Dataset) -> None:
    """The clock is set back to the millisecond of a record that Redis lost."""
    send(api, "a")
    drain(dataset.pk)
    set_clock(dataset, HOUR)
    backup = Backup.made()
    send(api, "b")
    enqueue(dataset, b"{}", trace="of the first")
    ids = [entry.stream_id for entry in stream.read(dataset.pk, generation())]
    drain(dataset.pk)
    backup.restore()
    for stream_id, name in zip(ids, ("other b", "other c"), strict=True):
        put_below(dataset, stream_id)
        send(api, name)
        assert last_id(dataset) == stream_id
    drain(dataset.pk)
    drain(dataset.pk)
    assert QuarantinedEntry.objects.count() == 1
    all_is_stored(dataset, ["a", "b", "other b", "other c"], quarantined=1)


def put_below(dataset: Dataset, stream_id: str) -> None:
    """Make Redis give this ID, which is ahead of its clock, to the next entry."""
    ms, seq = map(int, stream_id.split("-"))
    before = f"{ms}-{seq - 1}" if seq else f"{ms - 1}-{2**64 - 1}"
    redis.client().execute_command("XSETID", redis_keys.stream(dataset.pk), before)


def test_entry_whose_rows_were_deleted_is_stored_again(api: Api, dataset: Dataset) -> None:
    """A drain cannot distinguish deleted rows from rows that were never written. Retention deletes such rows again."""
    send(api, "a")
    backup = Backup.made()
    drain(dataset.pk)
    table = DatasetTable.of(Dataset.objects.get(pk=dataset.pk))
    table.refresh()
    table.delta.delete()
    backup.restore()
    drain(dataset.pk)
    assert names_in_table(dataset) == ["a"]
    assert balance(dataset).adds_up
    assert counters(dataset)["queued"] == 0


def test_replay_that_redis_lost_is_not_stored_again(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    enqueue(dataset, b'{"timestamp":"2026-06-10T10:58:00Z","context":{},"country":"b"}')
    drain(dataset.pk)
    mended = b'{"timestamp":"2026-06-10T10:58:00Z","context":{},"country":"b","plan":"","amount":1,"active":true,'
    QuarantinedEntry.objects.update(body=mended + b'"signup_at":"2026-06-10T10:58:00Z"}')
    backup = Backup.made()
    replay(QuarantinedEntry.objects.get())
    drain(dataset.pk)
    all_is_stored(dataset, ["a", "b"])
    backup.restore()
    QuarantinedEntry.objects.update(state=QuarantinedEntry.State.HELD)  # the replay died before it changed the row
    assert replay(QuarantinedEntry.objects.get())
    drain(dataset.pk)
    all_is_stored(dataset, ["a", "b"])


def test_restore_during_a_drain_trims_no_unread_entry(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = None
    for name in ("a", "b"):
        send(api, name)
        backup = backup or Backup.made()
    assert backup is not None
    set_clock(dataset, HOUR)
    send(api, "ahead")
    original = stream.trim

    def restored(*args: Any, **kwargs: Any) -> int:
        monkeypatch.undo()
        backup.restore()
        send(api, "new")
        return original(*args, **kwargs)

    monkeypatch.setattr(stream, "trim", restored)
    drain(dataset.pk)
    drain(dataset.pk)
    all_is_stored(dataset, ["a", "b", "ahead", "new"])


def test_racing_drains_after_a_restore_store_each_record_once(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(api, "a")
    backup = Backup.made()
    drain(dataset.pk)
    put_table_ahead(dataset, HOUR)
    backup.restore()
    send(api, "b")
    original = DatasetTable.append

    def after_another_drain(*args: Any, **kwargs: Any) -> None:
        assert finish(start(drain_without_lock, dataset.pk)) == 0
        original(*args, **kwargs)

    monkeypatch.setattr(DatasetTable, "append", after_another_drain)
    assert drain(dataset.pk) == 0
    monkeypatch.undo()
    all_is_stored(dataset, ["a", "b"])


# -- crashes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        "before the recount",
        "after the recount",
        "before keep_ahead",
        "after keep_ahead",
        "before the renumbering",
        "after the renumbering",
        "before the write",
        "after the commit",
        "before the write to quarantine",
        "after the write to quarantine",
        "after the trim",
    ],
)
def test_drain_killed_after_a_restore_stores_each_record_once(api: Api, dataset: Dataset, step: str) -> None:
    send(api, "stored")
    drain(dataset.pk)
    send(api, "in the copy")
    backup = Backup.made()
    set_clock(dataset, HOUR / 2)
    send(api, "forgotten, but stored")
    taken = last_id(dataset)
    drain(dataset.pk)
    put_table_ahead(dataset, HOUR)
    backup.restore()
    put_below(dataset, taken)
    send(api, "with an id that is taken")
    enqueue(dataset, b"{}")
    send(api, "new")

    assert finish(start(drain_dying, step, dataset.pk)) < 0

    between = counters(dataset)
    assert (between["queued"], between["bytes"]) == tuple(counted(dataset).values())
    assert balance(dataset).adds_up or step == "before the recount"
    let_the_lock_expire(dataset)
    drain(dataset.pk)
    drain(dataset.pk)
    names = ["stored", "in the copy", "forgotten, but stored", "with an id that is taken", "new"]
    all_is_stored(dataset, names, quarantined=1)
    assert QuarantinedEntry.objects.count() == 1


# -- cost ------------------------------------------------------------------------------------


def test_ordinary_drain_makes_no_extra_round_trip(api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Round trips: installation, suspects, lock, state, read, untidy, trim, settle, release. No row is looked up."""
    send(api, "a")
    drain(dataset.pk)
    send(api, "b")
    send(api, "c")

    def never(*_: Any) -> None:
        raise AssertionError("a row was looked up")

    monkeypatch.setattr(QueryBuilder, "execute", never)
    monkeypatch.setattr(DatasetTable, "has_renumbered", never)
    monkeypatch.setattr(ledger, "recount", never)
    trips = 0
    original = AbstractConnection.send_packed_command

    def counting(self: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        nonlocal trips
        trips += 1
        original(self, *args, **kwargs)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    assert drain(dataset.pk) == 2
    assert trips == 9


def ids_in_table(dataset: Dataset) -> list[str]:
    ids: list[str] = table_of(dataset).to_pyarrow_table()["id"].to_pylist()
    return ids
