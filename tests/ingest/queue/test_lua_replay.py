"""The Lua scripts that begin, replay and count: what they change, and that a refusal changes nothing."""

import pytest

from config.common import redis
from tests.ingest.queue.calling import (
    ACCEPTED,
    GENERATION,
    PENDING,
    QUEUED,
    REPLAY,
    REPLAYED,
    STREAM,
    TRIMMED,
    call,
    counts,
    everything,
    now_ms,
    replay,
)

# -- replay -------------------------------------------------------------------------------------------


def test_replay_queues_an_entry_as_it_was_with_its_first_id(queue: list[str]) -> None:
    redis.client().xtrim(STREAM, maxlen=0)
    place = replay(7, "now")
    ((found, fields),) = redis.client().xrange(STREAM)
    assert place == f"now-{found.decode()}"
    assert fields == {b"b": b"body", b"f": b"o", b"n": b"2", b"v": b"5", b"t": b"trace", b"o": b"1-1"}
    assert redis.client().zscore(PENDING, "13") <= now_ms()
    # The entry was accepted before, and was counted then.
    assert counts() == {"accepted": 120, "queued": 122, "bytes": 1204, "total": 2204}


def test_replay_of_the_same_row_queues_nothing_more(queue: list[str]) -> None:
    first = replay(7, "now")
    before = everything()
    assert replay(7, "now") == first
    assert everything() == before
    assert replay(8, "now") != first


def test_replay_of_an_earlier_generation_counts_as_accepted(queue: list[str]) -> None:
    replay(7, "before")
    assert counts() == {"accepted": 122, "queued": 122, "bytes": 1204, "total": 2204}


def test_replay_in_another_generation_does_nothing() -> None:
    for generation in (None, "later"):
        if generation:
            redis.client().set(GENERATION, generation)
        before = everything()
        assert call("replay", REPLAY, 7, "now", 13, b"body", "o", 2, 5, "trace", "1-1", "now", 4, "") is None
        assert everything() == before


# -- begin --------------------------------------------------------------------------------------------

BEGIN = [GENERATION, "version", "owner"]


@pytest.mark.parametrize("before", [{}, {"owner": "us"}, {"version": 2}, {"version": 2, "owner": "us"}])
def test_begin_names_a_fresh_set_of_data_in_one_step(before: dict[str, str | int]) -> None:
    if before:
        redis.client().mset(before)
    assert call("begin", BEGIN, "new", 2, "us") == b"new"
    assert redis.client().mget(BEGIN) == [b"new", b"2", b"us"]
    assert call("begin", BEGIN, "other", 2, "us") == b"new"
    assert redis.client().mget(BEGIN) == [b"new", b"2", b"us"]


@pytest.mark.parametrize(
    "before",
    [{"owner": "them"}, {"version": 3}, {GENERATION: "old"}, {GENERATION: "old", "version": 2, "owner": "them"}],
)
def test_begin_does_not_change_data_of_others_or_other_versions(before: dict[str, str | int]) -> None:
    redis.client().mset(before)
    kept = everything()
    assert call("begin", BEGIN, "new", 2, "us") is None
    assert everything() == kept


def test_replay_does_not_move_the_time_a_dataset_is_due(queue: list[str]) -> None:
    redis.client().zadd(PENDING, {"13": 5000})
    replay(7, "now")
    assert redis.client().zscore(PENDING, "13") == 5000


# -- ledger -------------------------------------------------------------------------------------------

LEDGER = [GENERATION, STREAM, ACCEPTED, QUEUED, REPLAYED, TRIMMED]


def test_ledger_lists_what_the_table_may_have(queue: list[str]) -> None:
    redis.client().set(TRIMMED, 7)
    before = everything()
    assert call("ledger", LEDGER, "0-0") == [b"now", 120, 120, b"7", [], []]
    listed = [[stream_id.encode(), b"t", n + 1, stream_id.encode(), b""] for n, stream_id in enumerate(queue[:3])]
    assert call("ledger", LEDGER, queue[2]) == [b"now", 120, 120, b"7", [], listed]
    assert everything() == before


def test_ledger_lists_more_than_a_page() -> None:
    client = redis.client()
    for n in range(1, 1202):
        client.xadd(STREAM, {"n": 2, "o": f"1-{n}"}, id=f"5-{n}")
    listed = call("ledger", LEDGER, "5-1100")[5]
    assert listed == [[f"1-{n}".encode(), b"", 2, f"5-{n}".encode(), b""] for n in range(1, 1101)]


def test_ledger_lists_the_first_id_of_a_renumbered_entry(queue: list[str]) -> None:
    new = call("renumber", [GENERATION, STREAM], "now", queue[0], "t")
    assert call("ledger", LEDGER, new)[5][-1] == [new, b"t", 1, new, queue[0].encode()]


def test_ledger_names_the_rows_that_were_replayed(queue: list[str]) -> None:
    redis.client().hset(REPLAYED, mapping={"11": "1-1", "13": "1-2"})
    assert call("ledger", LEDGER, "0-0", 10, 11, 12, 13)[4] == [2, 4]


def test_ledger_of_an_empty_redis_is_nothing() -> None:
    assert call("ledger", LEDGER, "0-0", 10) == [b"", 0, 0, b"0", [], []]
