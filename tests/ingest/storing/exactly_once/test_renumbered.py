"""An entry whose ID belongs to another record is stored once under a new ID, even if Redis is restored again."""

import json
from pathlib import Path

import pytest

from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import stream
from ingest.storing import upkeep
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from tests.conftest import Api, record
from tests.ingest.storing.exactly_once.test_restored_redis import all_is_stored, put_below
from tests.support.entries import enqueue, generation, let_the_lock_expire, send, table_of
from tests.support.processes.crashing import drain_dying, finish, start
from tests.support.servers.backups import HOUR, Backup, last_id, set_clock


def take_an_id(api: Api, dataset: Dataset) -> str:
    """Store "a" and "b", and make Redis forget "b" and give its ID to the next entry. Return the ID."""
    send(api, "a")
    drain(dataset.pk)
    set_clock(dataset, HOUR)
    backup = Backup.made()
    send(api, "b")
    taken = last_id(dataset)
    drain(dataset.pk)
    backup.restore()
    put_below(dataset, taken)
    return taken


def renumber_without_storing(dataset: Dataset) -> None:
    """Run a drain that dies after it has renumbered the entry."""
    assert finish(start(drain_dying, "after the renumbering", dataset.pk)) < 0
    let_the_lock_expire(dataset)


def drain_twice(dataset: Dataset) -> None:
    """Drain once to renumber the entry, and once to store it."""
    drain(dataset.pk)
    drain(dataset.pk)


def test_second_restore_does_not_double_a_renumbered_entry(api: Api, dataset: Dataset) -> None:
    taken = take_an_id(api, dataset)
    send(api, "other b")
    assert last_id(dataset) == taken
    second = Backup.made()
    for _ in range(2):
        drain_twice(dataset)
        all_is_stored(dataset, ["a", "b", "other b"])
        second.restore()
        now = balance(dataset)
        assert (now.stored, now.queued, now.adds_up) == (3, 0, True), "the ledger knows that the entry is stored"
    send(api, "c")
    drain_twice(dataset)
    all_is_stored(dataset, ["a", "b", "other b", "c"])


@pytest.mark.parametrize("first", ["before the renumbering", "after the renumbering"])
def test_copies_from_before_and_after_a_renumbering_store_it_once(api: Api, dataset: Dataset, first: str) -> None:
    take_an_id(api, dataset)
    send(api, "other b")
    copies = {"before the renumbering": Backup.made()}
    renumber_without_storing(dataset)
    copies["after the renumbering"] = Backup.made()
    copies.pop(first).restore()
    drain_twice(dataset)
    all_is_stored(dataset, ["a", "b", "other b"])
    (other,) = copies.values()
    other.restore()
    drain_twice(dataset)
    all_is_stored(dataset, ["a", "b", "other b"])


def test_entry_that_is_renumbered_twice_is_stored_once(api: Api, dataset: Dataset) -> None:
    """The new ID belongs to another record, too."""
    taken = take_an_id(api, dataset)
    earliest = Backup.made()
    send(api, "other b")
    earlier = Backup.made()
    renumber_without_storing(dataset)
    renumbered = Backup.made()
    (entry,) = stream.read(dataset.pk, generation())
    assert (entry.first_id, entry.is_replay) == (taken, False)
    earliest.restore()
    put_below(dataset, entry.stream_id)
    send(api, "c")
    assert last_id(dataset) == entry.stream_id
    drain(dataset.pk)
    for copy in (renumbered, renumbered, earlier):
        copy.restore()
        drain_twice(dataset)
        all_is_stored(dataset, ["a", "b", "c", "other b"])


def test_second_restore_does_not_double_a_renumbered_entry_in_quarantine(api: Api, dataset: Dataset) -> None:
    taken = take_an_id(api, dataset)
    assert enqueue(dataset, b"{}", trace="of the bad one") == taken
    second = Backup.made()
    drain_twice(dataset)
    second.restore()
    assert balance(dataset).adds_up
    drain_twice(dataset)
    assert QuarantinedEntry.objects.count() == 1
    all_is_stored(dataset, ["a", "b"], quarantined=1)


def test_unreadable_trace_id_does_not_double_a_renumbered_entry(api: Api, dataset: Dataset) -> None:
    taken = take_an_id(api, dataset)
    assert enqueue(dataset, json.dumps(record(country="other b")).encode(), trace=b"\xff") == taken
    second = Backup.made()
    for _ in range(2):
        drain_twice(dataset)
        all_is_stored(dataset, ["a", "b", "other b"])
        second.restore()


def test_another_record_with_the_same_id_is_stored_too(api: Api, dataset: Dataset) -> None:
    """Three records have had the same ID."""
    taken = take_an_id(api, dataset)
    earlier = Backup.made()
    send(api, "second b")
    drain_twice(dataset)
    earlier.restore()
    put_below(dataset, taken)
    send(api, "third b")
    assert last_id(dataset) == taken
    drain_twice(dataset)
    all_is_stored(dataset, ["a", "b", "second b", "third b"])


def test_checkpoint_and_compaction_keep_the_note_of_a_renumbered_entry(api: Api, dataset: Dataset) -> None:
    take_an_id(api, dataset)
    send(api, "other b")
    second = Backup.made()
    drain_twice(dataset)
    upkeep.tidy_tables(everything=True)
    table = table_of(dataset)
    table.create_checkpoint()
    log = Path(DatasetTable.of(dataset).uri) / "_delta_log"
    for commit in log.glob("*.json"):
        if int(commit.stem) < table.version():
            commit.unlink()
    second.restore()
    drain_twice(dataset)
    all_is_stored(dataset, ["a", "b", "other b"])
