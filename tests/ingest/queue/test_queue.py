"""What a drain does with the queue: positions, reading in parts, trimming, turns."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from hypothesis import example, given
from hypothesis import strategies as st

from config.common import redis
from config.common.cluster.key_tags import NO_TAG
from datasets import services
from datasets.models import Dataset, Project
from ingest.queue import formats, generations, redis_keys, stream, turns
from ingest.queue.stream import AnotherGeneration, Entry, last_id_of, position_of
from tests.conftest import FIELDS, Api, record
from tests.support.entries import counted, counters, enqueue, generation, in_stream, large, send

MS = st.integers(0, 2**43 - 1)  # times until the year 2248
SEQ = st.integers(0, 2**20 - 2)


# -- positions ----------------------------------------------------------------------------------------


ANY_ID = st.tuples(st.integers(0, 2**64 - 1) | MS, st.integers(0, 2**64 - 1) | SEQ)


@given(MS, SEQ)
def test_a_position_says_which_stream_id_it_is(ms: int, seq: int) -> None:
    assert last_id_of(position_of(f"{ms}-{seq}")) == f"{ms}-{seq}"


@given(ANY_ID, ANY_ID)
@example((2**43 - 1, 1), (2**43, 0))
def test_positions_are_in_the_order_of_stream_ids(a: tuple[int, int], b: tuple[int, int]) -> None:
    a, b = min(a, b), max(a, b)
    assert position_of(f"{a[0]}-{a[1]}") <= position_of(f"{b[0]}-{b[1]}")


@given(st.tuples(MS, SEQ), st.tuples(MS, SEQ))
def test_positions_have_the_order_of_the_stream_ids_that_a_clock_gives(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert (position_of(f"{a[0]}-{a[1]}") < position_of(f"{b[0]}-{b[1]}")) == (a < b)


@given(ANY_ID)
def test_a_position_fits_the_table(stream_id: tuple[int, int]) -> None:
    assert 0 <= position_of(f"{stream_id[0]}-{stream_id[1]}") < 2**63


# -- reading ------------------------------------------------------------------------------------------


def ids(dataset: Dataset) -> list[str]:
    return [entry.stream_id for entry in stream.read(dataset.pk, generation())]


def test_an_entry_is_what_was_admitted(api: Api, dataset: Dataset) -> None:
    body = json.dumps([record(country="a"), record(country="b")]).encode()
    response = api.batch(body, X_Request_Id="req_1")
    place = response.headers["Location"].rpartition("/")[2].split("-")
    stream_id = f"{place[1]}-{place[2]}"
    (entry,) = stream.read(dataset.pk, generation())
    assert entry == Entry(stream_id, body, b"a", 2, dataset.versions.get().pk, "req_1", stream_id, len(body))
    assert entry.position == position_of(stream_id)


@pytest.mark.parametrize(
    ("size", "noise", "compressed"),
    [(8191, 6000, False), (8192, 6000, True), (1_000_000, 60_000, True), (1_000_000, 10_000, False), (8192, 0, False)],
    ids=["too small", "large", "larger", "mostly spaces", "nothing but spaces"],
)
def test_a_large_body_is_queued_compressed_and_read_as_it_came(
    api: Api, dataset: Dataset, size: int, noise: int, compressed: bool
) -> None:
    """A body that shrinks to almost nothing is not compressed, so that the backlog limit also limits reading."""
    text = json.dumps([record(country="x", context={"noise": secrets.token_hex(noise // 2)})])
    body = text.encode() + b" " * (size - len(text))
    assert api.batch(body).status_code == 202
    (entry,) = stream.read(dataset.pk, generation())
    assert entry.body == body
    assert entry.queued_bytes == counters(dataset)["bytes"] == counted(dataset)["bytes"]
    assert (entry.queued_bytes < size) is compressed
    trim(dataset, [entry])
    assert counters(dataset)["bytes"] == counters(dataset)["total"] == 0


@pytest.mark.parametrize("damage", ["cut short", "almost nothing", "a claim of gigabytes", "a negative size"])
def test_damaged_compressed_body_is_left_for_the_drain(dataset: Dataset, damage: str) -> None:
    whole = formats.packed(large())
    mark, size, block = whole[:1], whole[1:5], whole[5:]
    assert (mark, int.from_bytes(size, "little")) == (b"\0", len(large()))
    damaged = {
        "cut short": whole[:-1],
        "almost nothing": whole[:3],
        "a claim of gigabytes": mark + (2**31 - 1).to_bytes(4, "little") + block,
        "a negative size": mark + b"\xff\xff\xff\xff" + block,
    }[damage]
    enqueue(dataset, damaged)
    (entry,) = stream.read(dataset.pk, generation())
    assert entry.body == damaged
    assert formats.packed(damaged) == damaged, "compressed twice, it could not be replayed"


def test_it_reads_in_order(api: Api, dataset: Dataset) -> None:
    for n in range(50):
        send(api, n)
    everything = ids(dataset)
    assert everything == sorted(everything, key=position_of)
    assert len(everything) == 50


def test_it_reads_through_all_its_pages(api: Api, dataset: Dataset) -> None:
    expected = [enqueue(dataset, b"x" * 40_000) for _ in range(150)]  # 6 MB: several pages of 1 MiB
    assert ids(dataset) == expected


def test_read_stops_at_the_maximum_records_of_a_commit(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_RECORDS", 7)
    for n in range(10):
        send(api, n, n, n)
    everything = ids_in_stream(dataset)
    assert ids(dataset) == everything[:3]  # an entry is not divided


def test_read_stops_at_the_maximum_bytes_of_a_commit(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_BYTES", 2 * 1024 * 1024)
    for _ in range(12):
        enqueue(dataset, b"x" * 900_000)
    assert len(ids(dataset)) == 3


def test_one_entry_beyond_every_limit_is_still_read(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_MAX_RECORDS", 1)
    monkeypatch.setattr(settings, "DRAIN_MAX_BYTES", 1)
    send(api, "a", "b")
    send(api, "c")
    assert [entry.count for entry in stream.read(dataset.pk, generation())] == [2]


@pytest.mark.parametrize("small", [1, 30, 300])
def test_large_bodies_after_small_ones_are_read_in_parts(
    dataset: Dataset, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the next bodies is unknown, and no process must hold the whole backlog."""
    monkeypatch.setattr(settings, "DRAIN_MAX_BYTES", 1024 * 1024)
    monkeypatch.setattr(settings, "MAX_BODY_BYTES", 500_000)
    monkeypatch.setattr(stream, "_MAX_BYTES", 4 * 1024 * 1024)
    for _ in range(small):
        enqueue(dataset, b"x")
    for _ in range(60):
        enqueue(dataset, b"x" * 500_000)
    before = redis.client().info("stats")["total_net_output_bytes"]
    read = list(stream.read(dataset.pk, generation()))
    sent = redis.client().info("stats")["total_net_output_bytes"] - before
    assert len(read) == small + 3
    assert sent < 6 * 1024 * 1024


def test_reading_another_generation_is_refused(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    with pytest.raises(AnotherGeneration):
        list(stream.read(dataset.pk, "0ddba110"))


def test_a_wipe_between_two_pages_is_noticed(api: Api, dataset: Dataset) -> None:
    for n in range(5):
        send(api, n)
    reading = stream.read(dataset.pk, generation())
    next(reading)
    redis.client().flushall()
    for n in range(5):
        send(api, n)
    with pytest.raises(AnotherGeneration):
        list(reading)


def test_a_wipe_that_leaves_nothing_is_noticed(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    before = generation()
    redis.client().flushall()
    assert generations.current(NO_TAG) is None
    with pytest.raises(AnotherGeneration):
        list(stream.read(dataset.pk, before))


def ids_in_stream(dataset: Dataset) -> list[str]:
    return [stream_id.decode() for stream_id, _ in redis.client().xrange(redis_keys.stream(dataset.pk))]


# -- trimming -----------------------------------------------------------------------------------------


def trim(dataset: Dataset, entries: Sequence[Entry], in_generation: str | None = None) -> int:
    before, reached = stream.state(dataset.pk).trimmed, entries[-1].position
    return stream.trim([stream.Trim(dataset.pk, in_generation or generation(), entries, before, reached)])


def test_trimming_takes_entries_and_what_they_count_for(api: Api, dataset: Dataset) -> None:
    for n in range(60):
        send(api, *range(n % 4 + 1))
    entries = list(stream.read(dataset.pk, generation()))
    assert trim(dataset, entries[:45]) == 45
    assert ids_in_stream(dataset) == [entry.stream_id for entry in entries[45:]]
    accepted = sum(entry.count for entry in entries)
    assert counters(dataset) == {"accepted": accepted, "total": counted(dataset)["bytes"], **counted(dataset)}
    assert stream.state(dataset.pk)[:3] == (generation(), 15, entries[44].position)


def test_two_trims_of_the_same_entries_count_them_once(api: Api, dataset: Dataset) -> None:
    for n in range(30):
        send(api, n)
    head = list(stream.read(dataset.pk, generation()))[:25]
    assert trim(dataset, head) == 25
    after = counters(dataset)
    assert trim(dataset, head) == 0
    assert counters(dataset) == after
    assert after["queued"] == in_stream(dataset) == 5


def test_a_trim_finishes_what_another_has_begun(api: Api, dataset: Dataset) -> None:
    for n in range(250):
        send(api, n)
    entries = list(stream.read(dataset.pk, generation()))
    assert trim(dataset, entries[:10]) == 10
    assert trim(dataset, entries[:230]) == 220
    assert ids_in_stream(dataset) == [entry.stream_id for entry in entries[230:]]
    assert counters(dataset)["queued"] == 20
    assert counters(dataset)["bytes"] == counted(dataset)["bytes"]


def test_a_trim_leaves_entries_that_were_not_read(api: Api, dataset: Dataset) -> None:
    """This happens after a restore of Redis: older entries are back, or other entries have the same IDs."""
    for n in range(30):
        send(api, n)
    entries = list(stream.read(dataset.pk, generation()))
    before = counters(dataset)
    assert trim(dataset, entries[10:20]) == 0
    others = [replace(entry, trace_id="of another") for entry in entries[:20]]
    assert trim(dataset, others) == 0
    assert trim(dataset, [*entries[:19], others[19]]) == 19
    assert ids_in_stream(dataset) == [entry.stream_id for entry in entries[19:]]
    assert counters(dataset)["queued"] == before["queued"] - 19
    assert counters(dataset)["bytes"] == counted(dataset)["bytes"]


def test_late_trim_removes_no_newer_entries(api: Api, dataset: Dataset) -> None:
    for n in range(10):
        send(api, n)
    entries = list(stream.read(dataset.pk, generation()))
    trim(dataset, entries)
    send(api, "new")
    assert trim(dataset, entries) == 0
    assert in_stream(dataset) == counters(dataset)["queued"] == 1


def test_a_trim_of_another_generation_takes_nothing(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    (entry,) = stream.read(dataset.pk, generation())
    assert trim(dataset, [entry], "0ddba110") == 0
    assert (in_stream(dataset), counters(dataset)["queued"]) == (1, 1)


def test_an_emptied_stream_continues_from_its_last_id(api: Api, dataset: Dataset) -> None:
    """If the stream began again, a clock that was set back would give IDs that are already in the table."""
    send(api, "a")
    (entry,) = stream.read(dataset.pk, generation())
    trim(dataset, [entry])
    assert redis.client().xinfo_stream(redis_keys.stream(dataset.pk))["last-generated-id"].decode() == entry.stream_id


# -- turns --------------------------------------------------------------------------------------------


def test_a_dataset_is_due_immediately_and_again_after_a_lease(
    api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DRAIN_LEASE_SECONDS", 30.0)
    assert turns.next_due() == []
    send(api, "a")
    began = time.time()
    assert turns.next_due() == [dataset.pk]
    assert turns.next_due() == []
    again = redis.client().zscore(redis_keys.pending(dataset.project_id), dataset.pk) / 1000
    assert began + 29 < again < time.time() + 31


def test_admitting_more_does_not_move_the_time_a_dataset_is_due(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    turns.next_due()
    score = redis.client().zscore(redis_keys.pending(dataset.project_id), dataset.pk)
    send(api, "b")
    assert redis.client().zscore(redis_keys.pending(dataset.project_id), dataset.pk) == score


def test_projects_take_turns_with_any_number_of_datasets(
    api: Api, dataset: Dataset, project: Project, owner: User
) -> None:
    for n in range(turns.MAX_DATASETS + 5):
        enqueue(services.create_dataset(project=project, name=f"{n}", fields=FIELDS), b"{}")
    neighbor = services.create_project(slug="neighbor", owner=owner)
    small = services.create_dataset(project=neighbor, name="small", fields=FIELDS)
    assert turns.count_due(100) == turns.MAX_DATASETS + 5
    first = turns.next_due()
    enqueue(small, b"{}")
    assert turns.count_due(100) == 6
    assert turns.next_due() == [small.pk]
    rest = turns.next_due()
    assert (len(first), len(rest), len({*first, *rest})) == (turns.MAX_DATASETS, 5, turns.MAX_DATASETS + 5)
    assert turns.next_due() == []
    assert turns.count_due(100) == 0
    assert turns.count_due(5) == 0


def test_no_more_are_counted_than_asked_for(project: Project) -> None:
    for n in range(5):
        enqueue(services.create_dataset(project=project, name=f"{n}", fields=FIELDS), b"{}")
    assert turns.count_due(3) == 3


def test_settling_forgets_a_dataset_whose_stream_is_empty(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    (entry,) = stream.read(dataset.pk, generation())
    trim(dataset, [entry])
    turns.settle([dataset])
    assert redis.client().zscore(redis_keys.pending(dataset.project_id), dataset.pk) is None


def test_settling_makes_a_dataset_due_now_if_more_entries_came(api: Api, dataset: Dataset) -> None:
    send(api, "a")
    turns.next_due()
    turns.settle([dataset])
    assert turns.next_due() == [dataset.pk]


# -- claims -------------------------------------------------------------------------------------------


def test_lock_that_lasts_longer_than_a_lease_keeps_no_drain_away(dataset: Dataset) -> None:
    """After a failover to a server whose clock is an hour behind, the lock of a killed drain lasts for an hour."""
    redis.client().set(redis_keys.lock(dataset.pk), "killed", px=3_600_000)
    with turns.locked([dataset.pk]) as locks:
        assert list(locks) == [dataset.pk]


def test_a_dataset_is_locked_by_one_drain_at_a_time(dataset: Dataset) -> None:
    with turns.locked([dataset.pk]) as first:
        with turns.locked([dataset.pk, dataset.pk + 1]) as second:
            assert list(second) == [dataset.pk + 1]
        assert first[dataset.pk].renew()
    with turns.locked([dataset.pk]) as third:
        assert list(third) == [dataset.pk]


def test_a_lock_is_released_when_its_drain_fails(dataset: Dataset) -> None:
    with pytest.raises(OSError, match="the storage is away"), turns.locked([dataset.pk]):
        raise OSError("the storage is away")
    assert not redis.client().exists(redis_keys.lock(dataset.pk))


def test_lost_lock_is_not_renewed_and_frees_no_other_lock(dataset: Dataset) -> None:
    with turns.locked([dataset.pk]) as slow:
        redis.client().delete(redis_keys.lock(dataset.pk))  # as if the lease had ended
        with turns.locked([dataset.pk]) as fast:
            assert not slow[dataset.pk].renew()
            turns._run_all("release", list(slow.values()))
            assert fast[dataset.pk].renew()


def test_a_lock_lasts_a_lease(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DRAIN_LEASE_SECONDS", 20.0)
    with turns.locked([dataset.pk]) as locks:
        redis.client().pexpire(redis_keys.lock(dataset.pk), 5000)
        assert locks[dataset.pk].renew()
        assert 15_000 < redis.client().pttl(redis_keys.lock(dataset.pk)) <= 20_000
