"""Entries that cannot be stored go to quarantine, in order and with the reason. They can be replayed once."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from threading import Barrier
from typing import Any

import pytest
from deltalake.exceptions import DeltaError
from django.core.management import CommandError, call_command
from django.db import connection

from config.common import redis
from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.monitoring import statistics
from ingest.queue import stream
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from ingest.storing.quarantine import replay
from tests.conftest import FIELDS, Api, record
from tests.support.entries import (
    counted,
    counters,
    enqueue,
    generation,
    in_stream,
    large,
    let_the_lock_expire,
    named,
    names_in_table,
    send,
    table_of,
)
from tests.support.processes.crashing import drain_dying, finish, start

GOOD = json.dumps(record(country="x")).encode()
HELD, REPLAYED = QuarantinedEntry.State.HELD, QuarantinedEntry.State.REPLAYED


def ledger(dataset: Dataset) -> tuple[int, int, int, int]:
    """Return accepted, stored, queued and quarantined, and check that they add up."""
    now = balance(dataset)
    assert now.adds_up, now
    return now.accepted, now.stored, now.queued, now.quarantined


def held(dataset: Dataset) -> list[QuarantinedEntry]:
    """Return the dataset's entries in quarantine, in the order of the queue."""
    return list(QuarantinedEntry.objects.filter(dataset=dataset, state=HELD).order_by("position"))


# -- which entries go to quarantine -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"body": b""}, "the body holds 0 records, not 1"),
        ({"body": b"{"}, "the body does not match its schema version: .*"),
        ({"body": GOOD.replace(b"42.5", b'"42.5"')}, r".*Expected `float`, got `str` - at `\$\[0\]\.amount`"),
        ({"body": GOOD.replace(b'"plan"', b'"plans"')}, ".*unknown field `plans`.*"),
        ({"body": GOOD.replace(b', "active": true', b"")}, ".*missing required field `active`.*"),
        ({"body": GOOD.replace(b'"x"', b'"\xff"')}, ".*"),
        ({"body": GOOD.replace(b'"req_123"', b'"\xff"')}, ".*"),
        ({"body": GOOD.replace(b"2026-06-10T10:58:00Z", b"yesterday")}, ".*"),
        ({"body": GOOD.replace(b"2026-06-10T10:58:00Z", b"2026-06-31T10:58:00Z")}, ".*"),
        ({"body": GOOD.replace(b'"plan"', b'"\\u0000"')}, ".*"),
        ({"body": GOOD.replace(b'"x"', b"[" * 5000 + b"]" * 5000)}, ".*"),
        ({"body": GOOD, "count": 2}, "the body holds 1 records, not 2"),
        ({"body": b"[" + GOOD + b"]", "form": b"a", "count": 3}, "the body holds 1 records, not 3"),
        ({"body": b"[]", "form": b"a", "count": 0}, "the body holds 0 records, not 0"),
        ({"body": GOOD, "form": b"a"}, "the body does not match its schema version: .*"),
        ({"body": GOOD + b"\n" + GOOD, "form": b"l", "count": 1}, "the body holds 2 records, not 1"),
        ({"body": GOOD, "form": b"z"}, "unknown format b'z'"),
        ({"body": GOOD, "form": b""}, "unknown format b''"),
        ({"body": GOOD, "version": 0}, "there is no schema version 0 of this dataset"),
        ({"body": b"{", "trace": "a\0b" + "c" * 200}, "the body does not match its schema version: .*"),
    ],
)
def test_undecodable_entry_goes_to_quarantine_and_the_rest_is_stored(
    api: Api, dataset: Dataset, entry: dict[str, Any], reason: str
) -> None:
    send(api, "a")
    stream_id = enqueue(dataset, **{"trace": "req_7", **entry})
    send(api, "b", "c")
    count = entry.get("count", 1)
    assert ledger(dataset) == (3 + count, 0, 3 + count, 0)

    assert drain(dataset.pk) == 3

    assert names_in_table(dataset) == ["a", "b", "c"]
    (row,) = held(dataset)
    assert re.fullmatch(reason, row.reason)
    assert bytes(row.body) == entry["body"]
    assert (row.count, row.origin, row.position) == (count, stream_id, stream.position_of(stream_id))
    assert row.trace_id.startswith("a" if "trace" in entry else "req_7")
    assert ledger(dataset) == (3 + count, 3, 0, count)
    assert in_stream(dataset) == 0


def test_schema_version_of_another_dataset_is_not_used(api: Api, project: Project, dataset: Dataset) -> None:
    other = services.create_dataset(project=project, name="Other", fields=FIELDS)
    version = other.versions.get().pk
    enqueue(dataset, GOOD, version=version)
    drain(dataset.pk)
    assert [row.reason for row in held(dataset)] == [f"there is no schema version {version} of this dataset"]


def test_entries_go_to_quarantine_in_order(api: Api, dataset: Dataset) -> None:
    poison = []
    for n in range(40):
        send(api, n)
        if n % 3 == 0:
            poison.append(enqueue(dataset, b"{}", count=n + 1))
    drain(dataset.pk)
    assert [row.origin for row in held(dataset)] == poison
    assert [row.count for row in held(dataset)] == list(range(1, 41, 3))
    assert names_in_table(dataset) == [f"{n}" for n in range(40)]
    assert ledger(dataset)[1:3] == (40, 0)


def test_changed_column_sends_only_its_version_to_quarantine(api: Api, dataset: Dataset) -> None:
    table = DatasetTable.of(dataset)
    table.create([Field("country", "string"), Field("amount", "string")])
    version = dataset.versions.get()
    send(api, "a")
    services.save_dataset(dataset, fields=[Field("country", "string")])
    lean = {name: record()[name] for name in ("timestamp", "context")}
    assert api.one({**lean, "country": "b"}).status_code == 202
    enqueue(dataset, b"{}")
    enqueue(dataset, GOOD, version=version.pk)
    drain(dataset.pk)
    assert names_in_table(dataset) == ["b"]
    changed = "column amount of the table is string, not double"
    reasons = [row.reason for row in held(dataset)]
    assert (reasons[0], reasons[2]) == (changed, changed)
    assert "missing required field" in reasons[1]
    assert ledger(dataset) == (4, 1, 0, 3)


def test_failing_storage_sends_nothing_to_quarantine(api: Api, dataset: Dataset, tmp_path: Any) -> None:
    send(api, "a")
    (tmp_path / "tables").write_text("a disk that is broken")
    with pytest.raises((OSError, DeltaError)):
        drain(dataset.pk)
    assert held(dataset) == []
    assert (counters(dataset)["queued"], in_stream(dataset)) == (1, 1)
    (tmp_path / "tables").unlink()
    assert drain(dataset.pk) == 1
    assert ledger(dataset) == (1, 1, 0, 0)


# -- replay -------------------------------------------------------------------------------------------


def make_storable(dataset: Dataset) -> QuarantinedEntry:
    """Put two records into quarantine by a missing schema version, and restore the version."""
    version = dataset.versions.get()
    number, fields, pk = version.number, version.fields, version.pk
    dataset.versions.filter(pk=pk).delete()
    enqueue(dataset, json.dumps(named("m", "n")).encode(), form=b"a", count=2, version=pk, trace="req_7")
    drain(dataset.pk)
    dataset.versions.create(pk=pk, number=number, fields=fields)
    (entry,) = held(dataset)
    return entry


def test_replay_stores_records_with_the_ids_of_their_acceptance(api: Api, dataset: Dataset) -> None:
    entry = make_storable(dataset)
    send(api, "z")
    assert ledger(dataset) == (3, 0, 1, 2)

    assert replay(entry)

    assert ledger(dataset) == (3, 0, 3, 0)
    assert drain(dataset.pk) == 3
    assert ledger(dataset) == (3, 3, 0, 0)
    assert names_in_table(dataset) == ["m", "n", "z"]
    rows = table_of(dataset).to_pyarrow_table().sort_by("id").to_pylist()
    ms, seq = map(int, entry.origin.split("-"))
    assert [row["id"] for row in rows[:2]] == [f"{ms:013}-{seq:07}-00000", f"{ms:013}-{seq:07}-00001"]
    assert {row["ingested_at"].timestamp() for row in rows[:2]} == {ms / 1000}
    assert {row["__traceId"] for row in rows[:2]} == {"req_7"}
    entry.refresh_from_db()
    assert entry.state == REPLAYED
    assert entry.replayed_at is not None


def test_replayed_records_count_once_in_the_statistics(api: Api, dataset: Dataset) -> None:
    entry = make_storable(dataset)
    send(api, "z")
    drain(dataset.pk)
    assert replay(entry)
    drain(dataset.pk)
    assert ledger(dataset) == (3, 3, 0, 0)
    assert statistics.traffic([dataset.pk])[dataset.pk].by_hour.total() == 3


def test_second_replay_does_nothing(dataset: Dataset) -> None:
    entry = make_storable(dataset)
    stale = QuarantinedEntry.objects.get(pk=entry.pk)
    assert replay(entry)
    assert not replay(entry)
    assert not replay(stale)  # read before the first replay
    assert ledger(dataset) == (2, 0, 2, 0)
    drain(dataset.pk)
    assert not replay(QuarantinedEntry.objects.get(pk=entry.pk))
    assert not replay(stale)
    drain(dataset.pk)
    assert names_in_table(dataset) == ["m", "n"]
    assert ledger(dataset) == (2, 2, 0, 0)


def test_large_body_is_replayed_compressed(dataset: Dataset) -> None:
    poison = large()
    enqueue(dataset, poison)
    drain(dataset.pk)
    entry = QuarantinedEntry.objects.get(dataset=dataset)
    assert bytes(entry.body) == poison
    assert replay(entry)
    assert counters(dataset)["bytes"] == counted(dataset)["bytes"] < len(poison)
    drain(dataset.pk)
    assert bytes(QuarantinedEntry.objects.get(dataset=dataset, state="held").body) == poison


def test_concurrent_replays_queue_the_entry_once(dataset: Dataset) -> None:
    entry = make_storable(dataset)
    together = Barrier(8)

    def work(_: int) -> bool:
        try:
            mine = QuarantinedEntry.objects.get(pk=entry.pk)
            together.wait()
            return replay(mine)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 1
    assert in_stream(dataset) == 1
    drain(dataset.pk)
    assert names_in_table(dataset) == ["m", "n"]


def test_next_replay_completes_a_replay_that_died_halfway(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = make_storable(dataset)

    def dying(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    # The process dies after the entry is queued, and before the row says so.
    monkeypatch.setattr("ingest.storing.quarantine.clock.now", dying)
    with pytest.raises(KeyboardInterrupt):
        replay(entry)
    monkeypatch.undo()
    assert ledger(dataset) == (2, 0, 2, 0)
    drain(dataset.pk)
    assert ledger(dataset) == (2, 2, 0, 0)
    assert replay(QuarantinedEntry.objects.get(pk=entry.pk))
    assert in_stream(dataset) == 0
    assert ledger(dataset) == (2, 2, 0, 0)


def test_replayed_entry_that_fails_again_returns_to_quarantine(api: Api, dataset: Dataset) -> None:
    stream_id = enqueue(dataset, b"{}", count=2)
    drain(dataset.pk)
    (first,) = held(dataset)
    assert replay(first)
    assert drain(dataset.pk) == 0
    (second,) = held(dataset)
    assert second.pk != first.pk
    assert second.origin == stream_id
    assert ledger(dataset) == (2, 0, 0, 2)
    assert replay(second)
    drain(dataset.pk)
    assert ledger(dataset) == (2, 0, 0, 2)
    assert QuarantinedEntry.objects.filter(state=REPLAYED).count() == 2


def test_replay_into_a_wiped_redis_is_stored_once(api: Api, dataset: Dataset) -> None:
    entry = make_storable(dataset)
    before = generation()
    redis.client().flushall()
    assert ledger(dataset) == (0, 0, 0, 0)

    assert replay(entry)

    assert generation() != before
    assert ledger(dataset) == (2, 0, 2, 0)
    send(api, "z")
    drain(dataset.pk)
    assert names_in_table(dataset) == ["m", "n", "z"]
    assert ledger(dataset) == (3, 3, 0, 0)
    assert not replay(QuarantinedEntry.objects.get(pk=entry.pk))


def test_entry_that_fails_again_after_a_wipe_counts_there(api: Api, dataset: Dataset) -> None:
    enqueue(dataset, b"{}", count=2)
    drain(dataset.pk)
    (entry,) = held(dataset)
    redis.client().flushall()
    replay(entry)
    drain(dataset.pk)
    assert ledger(dataset) == (2, 0, 0, 2)


def test_entry_that_is_still_queued_is_not_replayed(api: Api, dataset: Dataset) -> None:
    """The drain died before the commit, so the entry is still queued. A replay would queue it twice."""
    send(api, "a")
    enqueue(dataset, b"{}")
    finish(start(drain_dying, "before the write", dataset.pk))
    let_the_lock_expire(dataset)
    (entry,) = held(dataset)
    assert ledger(dataset) == (2, 0, 2, 0)

    assert not replay(entry)

    assert ledger(dataset) == (2, 0, 2, 0)
    drain(dataset.pk)
    assert ledger(dataset) == (2, 1, 0, 1)
    entry.refresh_from_db()
    assert entry.state == HELD
    assert replay(entry)
    assert ledger(dataset) == (2, 1, 1, 0)


def test_entry_from_a_killed_drain_stays_in_quarantine(api: Api, dataset: Dataset) -> None:
    version = dataset.versions.get()
    saved = {"pk": version.pk, "number": version.number, "fields": version.fields}
    send(api, "m")
    version.delete()
    finish(start(drain_dying, "before the write", dataset.pk))
    let_the_lock_expire(dataset)
    dataset.versions.create(**saved)
    send(api, "z")
    drain(dataset.pk)
    assert names_in_table(dataset) == ["z"]
    assert ledger(dataset) == (2, 1, 0, 1)
    (entry,) = held(dataset)
    replay(entry)
    drain(dataset.pk)
    assert names_in_table(dataset) == ["m", "z"]
    assert ledger(dataset) == (2, 2, 0, 0)


def test_drain_killed_during_a_replay_stores_it_once(dataset: Dataset) -> None:
    replay(make_storable(dataset))
    finish(start(drain_dying, "after the commit", dataset.pk))
    let_the_lock_expire(dataset)
    assert ledger(dataset) == (2, 2, 0, 0)
    drain(dataset.pk)
    assert names_in_table(dataset) == ["m", "n"]
    assert ledger(dataset) == (2, 2, 0, 0)


# -- the command --------------------------------------------------------------------------------------


def run(pk: int) -> str:
    out = StringIO()
    call_command("replay", str(pk), stdout=out)
    return out.getvalue()


def test_command_replays_an_entry(dataset: Dataset) -> None:
    entry = make_storable(dataset)
    assert run(entry.pk) == f"2 records are in the queue of dataset {dataset.pk} again.\n"
    assert (
        run(entry.pk)
        == "Nothing was changed: the entry was replayed or discarded before, or it is still in the queue.\n"
    )
    assert drain(dataset.pk) == 2


def test_command_reports_one_record_in_the_singular(dataset: Dataset) -> None:
    enqueue(dataset, b"no json")
    drain(dataset.pk)
    (entry,) = held(dataset)
    assert run(entry.pk) == f"1 record is in the queue of dataset {dataset.pk} again.\n"


def test_command_reports_an_unknown_entry(db: None) -> None:
    with pytest.raises(CommandError, match=r"^There is no quarantined entry 999\.$"):
        run(999)
