"""The queue's Lua scripts, each alone against a real Redis: what they change, and that a refusal changes nothing."""

from pathlib import Path
from typing import Any

import pytest

import ingest
from config import redis

LUA = Path(ingest.__file__).parent / "lua"
GENERATION, STREAM, TOTAL, HOURS = "generation", "stream", "total", "hours"
ACCEPTED, QUEUED, BYTES = "accepted", "queued", "bytes"
PENDING, TURNS, REPLAYED, LOCK = "pending", "turns", "replayed", "lock"
TRIM = [GENERATION, STREAM, QUEUED, BYTES, TOTAL, HOURS]
HOUR_MS = 3_600_000


def call(name: str, keys: list[str], *args: object) -> Any:
    return redis.load_script(LUA / f"{name}.lua")(keys=keys, args=args)


def everything() -> dict[bytes, bytes]:
    """All that this Redis holds."""
    client = redis.client()
    return {key: client.dump(key) for key in client.keys("*")}


def counts() -> dict[str, int]:
    keys = {"accepted": ACCEPTED, "queued": QUEUED, "bytes": BYTES, "total": TOTAL}
    return {name: int(value or 0) for name, value in zip(keys, redis.client().mget(keys.values()), strict=True)}


def stream() -> list[str]:
    return [stream_id.decode() for stream_id, _ in redis.client().xrange(STREAM)]


@pytest.fixture
def queue() -> list[str]:
    """Sixty entries of 1, 2, 3 records and 10, 20, 30 bytes, in three hours; another dataset has 1000 bytes."""
    client = redis.client()
    client.set(GENERATION, "now")
    ids = []
    for n in range(60):
        count = n % 3 + 1
        stream_id = f"{490_000 * HOUR_MS + n * HOUR_MS // 20}-{n}"
        client.xadd(STREAM, {"b": b"x" * 10 * count, "f": "o", "n": count, "v": 1, "t": "t"}, id=stream_id)
        ids.append(stream_id)
    client.mset({ACCEPTED: 120, QUEUED: 120, BYTES: 1200})
    client.set(TOTAL, 2200)
    return ids


# -- trim ---------------------------------------------------------------------------------------------


def test_trim_counts_what_it_removes_a_few_at_a_time(queue: list[str]) -> None:
    steps = []
    while step := call("trim", TRIM, "now", queue[49]):
        steps.append(step)
        left = len(stream())
        assert stream() == queue[60 - left :]
    assert steps == [20, 20, 10]
    assert counts() == {"accepted": 120, "queued": 21, "bytes": 210, "total": 1210}
    stored = {int(hour): int(count) for hour, count in redis.client().hgetall(HOURS).items()}
    assert stored == {490_000: 39, 490_001: 40, 490_002: 20}


def test_trim_takes_all_at_once_from_a_drain_that_knows_them(queue: list[str]) -> None:
    known = [queue[0], 50, 99, 990, 490_000, 39, 490_001, 40, 490_002, 20]
    assert call("trim", TRIM, "now", queue[49], *known) == 50
    assert stream() == queue[50:]
    assert counts() == {"accepted": 120, "queued": 21, "bytes": 210, "total": 1210}
    stored = {int(hour): int(count) for hour, count in redis.client().hgetall(HOURS).items()}
    assert stored == {490_000: 39, 490_001: 40, 490_002: 20}


def test_trim_believes_a_drain_only_if_the_stream_begins_with_its_entries(queue: list[str]) -> None:
    before = everything()
    assert call("trim", TRIM, "now", queue[49], queue[10], 40, 79, 790, 490_000, 79) == -1
    assert everything() == before


def test_trim_counts_an_entry_that_was_replayed_for_no_hour(queue: list[str]) -> None:
    replay(7, "now")
    while call("trim", TRIM, "now", "9999999999999-0"):
        pass
    assert counts() == {"accepted": 120, "queued": 0, "bytes": 0, "total": 1000}
    stored = {int(hour): int(count) for hour, count in redis.client().hgetall(HOURS).items()}
    assert stored == {490_000: 39, 490_001: 40, 490_002: 41}


@pytest.mark.parametrize("known", [[], ["1-0", 1, 1, 10, 0, 1]])
def test_trim_of_an_empty_stream_changes_nothing(queue: list[str], known: list[object]) -> None:
    redis.client().xtrim(STREAM, maxlen=0)
    before = everything()
    assert call("trim", TRIM, "now", queue[-1], *known) == 0
    assert everything() == before


@pytest.mark.parametrize("generation", ["before", None])
@pytest.mark.parametrize("known", [True, False])
def test_trim_of_another_generation_changes_nothing(queue: list[str], generation: str | None, known: bool) -> None:
    if generation is None:
        redis.client().delete(GENERATION)
    before = everything()
    more = [queue[0], 60, 120, 1200, 490_000, 120] if known else []
    assert call("trim", TRIM, generation or "now", queue[-1], *more) == 0
    assert everything() == before


def test_trim_before_the_first_entry_changes_nothing(queue: list[str]) -> None:
    before = everything()
    assert call("trim", TRIM, "now", "1-0") == 0
    assert everything() == before


def test_trim_goes_by_sequence_number_within_a_millisecond(queue: list[str]) -> None:
    redis.client().xadd(STREAM, {"b": b"", "n": 1}, id="9999999999999-1048574")
    redis.client().xadd(STREAM, {"b": b"", "n": 1}, id="9999999999999-1048575")
    while call("trim", TRIM, "now", "9999999999999-1048574"):
        pass
    assert stream() == ["9999999999999-1048575"]


# -- take ---------------------------------------------------------------------------------------------


def now_ms() -> int:
    seconds, micros = redis.client().time()
    return int(seconds * 1000 + micros // 1000)


def take() -> int:
    taken: int = call("take", [TURNS, PENDING], 4, 30_000)
    return taken


def test_take_takes_what_has_been_due_the_longest_and_makes_it_due_a_lease_later() -> None:
    client, began = redis.client(), now_ms()
    client.zadd(PENDING, {"3": began, "1": 1000, "2": 2000})
    client.zadd(TURNS, {"4": 1000})
    assert [take(), take(), take(), take()] == [1, 2, 3, 0]
    scores = dict(client.zrange(PENDING, 0, -1, withscores=True))
    assert scores.keys() == {b"1", b"2", b"3"}
    assert all(began + 30_000 <= score <= now_ms() + 30_000 for score in scores.values())


def test_take_moves_the_turn_to_now_and_then_to_when_the_next_is_due() -> None:
    client, began = redis.client(), now_ms()
    client.zadd(PENDING, {"1": 1000})
    client.zadd(TURNS, {"4": 1000})
    assert take() == 1
    assert began <= client.zscore(TURNS, "4") <= now_ms()
    assert take() == 0
    assert client.zscore(TURNS, "4") == client.zscore(PENDING, "1")
    before = everything()
    assert take() == -1
    assert everything() == before


def test_take_forgets_a_project_without_pending_datasets() -> None:
    redis.client().zadd(TURNS, {"4": 1000})
    assert take() == 0
    assert everything() == {}


def test_take_takes_what_was_due_before_the_clock_was_set_back() -> None:
    redis.client().zadd(PENDING, {"1": now_ms() + 3_600_000})
    redis.client().zadd(TURNS, {"4": now_ms() + 3_600_000})
    assert take() == 1


# -- settle -------------------------------------------------------------------------------------------


def test_settle_forgets_what_has_nothing_queued() -> None:
    redis.client().zadd(PENDING, {"13": 1, "14": 1})
    assert call("settle", [PENDING, STREAM, TURNS], 13, 4) == 1
    assert redis.client().zrange(PENDING, 0, -1) == [b"14"]


def test_settle_makes_what_has_more_due_at_once(queue: list[str]) -> None:
    redis.client().zadd(PENDING, {"13": now_ms() + 60_000})
    assert call("settle", [PENDING, STREAM, TURNS], 13, 4) == 0
    assert redis.client().zscore(PENDING, "13") <= now_ms()


def test_settle_adds_what_has_more_and_was_not_pending(queue: list[str]) -> None:
    assert call("settle", [PENDING, STREAM, TURNS], 13, 4) == 0
    assert redis.client().zscore(PENDING, "13") <= now_ms()
    assert redis.client().zscore(TURNS, "4") <= now_ms()


# -- lock ---------------------------------------------------------------------------------------------


def test_lock_is_claimed_once_and_released_by_its_token() -> None:
    assert call("lock", [LOCK], "mine", "claim", 30_000) == 1
    before = everything()
    for what in ("claim", "renew", "release"):
        assert call("lock", [LOCK], "theirs", what, 30_000) == 0
        assert everything() == before
    assert call("lock", [LOCK], "mine", "release", 30_000) == 1
    assert everything() == {}


def test_lock_is_renewed_by_its_token() -> None:
    call("lock", [LOCK], "mine", "claim", 1000)
    assert call("lock", [LOCK], "mine", "renew", 30_000) == 1
    assert 29_000 < redis.client().pttl(LOCK) <= 30_000


@pytest.mark.parametrize("what", ["renew", "release"])
def test_lock_that_is_gone_is_not_made_again(what: str) -> None:
    assert call("lock", [LOCK], "mine", what, 30_000) == 0
    assert everything() == {}


def test_lock_expires_after_its_lease() -> None:
    call("lock", [LOCK], "mine", "claim", 30_000)
    assert 29_000 < redis.client().pttl(LOCK) <= 30_000


# -- slots --------------------------------------------------------------------------------------------


def test_slots_that_were_not_used_for_long_are_forgotten() -> None:
    client = redis.client()
    client.mset({"old": f"7 {now_ms() - 60_001}-0", "new": f"9 {now_ms() - 50_000}-12"})
    client.sadd("slots", "old", "new", "gone")
    assert call("slots", ["slots", "old", "new", "gone"], 60_000) == 2
    assert client.smembers("slots") == {b"new"}
    assert client.exists("old", "new") == 1


# -- replay -------------------------------------------------------------------------------------------

REPLAY = [GENERATION, STREAM, ACCEPTED, QUEUED, BYTES, TOTAL, PENDING, REPLAYED, TURNS]


def replay(row: int, accepted_in: str) -> str:
    reply: bytes = call("replay", REPLAY, row, accepted_in, 13, b"body", "o", 2, 5, "trace", "1-1", "new", 4)
    return reply.decode()


def test_replay_queues_an_entry_as_it_was_with_its_first_id(queue: list[str]) -> None:
    redis.client().xtrim(STREAM, maxlen=0)
    place = replay(7, "now")
    ((found, fields),) = redis.client().xrange(STREAM)
    assert place == f"now-{found.decode()}"
    assert fields == {b"b": b"body", b"f": b"o", b"n": b"2", b"v": b"5", b"t": b"trace", b"o": b"1-1"}
    assert redis.client().zscore(PENDING, "13") <= now_ms()
    # It was accepted before, and counted then.
    assert counts() == {"accepted": 120, "queued": 122, "bytes": 1204, "total": 2204}


def test_replay_of_the_same_row_queues_nothing_more(queue: list[str]) -> None:
    first = replay(7, "now")
    before = everything()
    assert replay(7, "now") == first
    assert everything() == before
    assert replay(8, "now") != first


def test_replay_of_another_generation_counts_as_accepted_in_this_one(queue: list[str]) -> None:
    replay(7, "before")
    assert counts() == {"accepted": 122, "queued": 122, "bytes": 1204, "total": 2204}


def test_replay_into_an_empty_redis_begins_a_generation() -> None:
    assert replay(7, "before").startswith("new-")
    assert redis.client().get(GENERATION) == b"new"
    assert counts() == {"accepted": 2, "queued": 2, "bytes": 4, "total": 4}


def test_replay_does_not_move_the_time_a_dataset_is_due(queue: list[str]) -> None:
    redis.client().zadd(PENDING, {"13": 5000})
    replay(7, "now")
    assert redis.client().zscore(PENDING, "13") == 5000


# -- ledger -------------------------------------------------------------------------------------------

LEDGER = [GENERATION, STREAM, ACCEPTED, QUEUED, REPLAYED]


def test_ledger_counts_as_queued_what_is_beyond_the_position(queue: list[str]) -> None:
    before = everything()
    assert call("ledger", LEDGER, "0-0") == [b"now", 120, 120, []]
    assert call("ledger", LEDGER, queue[2]) == [b"now", 120, 114, []]
    assert call("ledger", LEDGER, queue[-1]) == [b"now", 120, 0, []]
    assert everything() == before


def test_ledger_counts_more_than_a_page_that_is_not_yet_trimmed() -> None:
    client = redis.client()
    for n in range(1, 1202):
        client.xadd(STREAM, {"n": 2}, id=f"5-{n}")
    client.mset({ACCEPTED: 2402, QUEUED: 2402})
    assert call("ledger", LEDGER, "5-1100") == [b"", 2402, 202, []]


def test_ledger_names_the_rows_that_were_replayed(queue: list[str]) -> None:
    redis.client().hset(REPLAYED, mapping={"11": "1-1", "13": "1-2"})
    assert call("ledger", LEDGER, "0-0", 10, 11, 12, 13)[3] == [2, 4]


def test_ledger_of_an_empty_redis_is_nothing() -> None:
    assert call("ledger", LEDGER, "0-0", 10) == [b"", 0, 0, []]
