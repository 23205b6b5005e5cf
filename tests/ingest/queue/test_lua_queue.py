"""The queue's Lua scripts, each alone in a real Redis: what they change, and that a refusal changes nothing."""

from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from config.common import redis
from ingest.queue import redis_keys
from tests.ingest.queue.calling import (
    ACCEPTED,
    DEATHS,
    GENERATION,
    HOURS,
    LOCK,
    PENDING,
    STREAM,
    TOTAL,
    TRIM,
    TRIMMED,
    TURNS,
    call,
    counts,
    everything,
    now_ms,
    replay,
    stream,
)

ROOT = Path(__file__).parents[3]
PATHS = sorted(path for app in ("ingest", "quotas") for path in (ROOT / app).rglob("*.lua"))


@pytest.mark.parametrize("keys", [0, 30])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_script_refuses_a_wrong_number_of_keys(path: Path, keys: int) -> None:
    with pytest.raises(ResponseError, match=f"{path.name}: wrong number of KEYS or ARGV"):
        redis.Script(path)(keys=["key"] * keys, args=[])
    assert redis.client().dbsize() == 0


# -- trim ---------------------------------------------------------------------------------------------


def known(queue: list[str], first: int, last: int, *hours: int) -> list[object]:
    """Return what a drain knows of these entries. The drain has moved the table's watermark from 5 to 6."""
    records = sum(n % 3 + 1 for n in range(first, last + 1))
    return [queue[first], "t", queue[last], "t", last - first + 1, records, 10 * records, 5, 6, *hours]


def test_trim_removes_all_entries_together(queue: list[str]) -> None:
    redis.client().set(TRIMMED, 5)
    assert call("trim", TRIM, "now", *known(queue, 0, 49, 490_000, 39, 490_001, 40, 490_002, 20)) == 50
    assert stream() == queue[50:]
    assert counts() == {"accepted": 120, "queued": 21, "bytes": 210, "total": 1210}
    stored = {int(hour): int(count) for hour, count in redis.client().hgetall(HOURS).items()}
    assert stored == {490_000: 39, 490_001: 40, 490_002: 20}
    assert redis.client().get(TRIMMED) == b"6"


@pytest.mark.parametrize(("trimmed", "after"), [(None, None), (4, b"4"), (7, b"7")])
def test_trim_does_not_hide_that_this_redis_forgot(queue: list[str], trimmed: int | None, after: bytes | None) -> None:
    if trimmed is not None:
        redis.client().set(TRIMMED, trimmed)
    assert call("trim", TRIM, "now", *known(queue, 0, 9)) == 10
    assert redis.client().get(TRIMMED) == after


@pytest.mark.parametrize("change", ["first", "last", "marks"])
def test_trim_needs_these_entries_at_the_head_of_the_stream(queue: list[str], change: str) -> None:
    what = known(queue, 10 if change == "first" else 0, 40)
    if change == "last":
        redis.client().xdel(STREAM, queue[40])
    elif change == "marks":
        what[3] = "of another"
    before = everything()
    assert call("trim", TRIM, "now", *what) == -1
    assert everything() == before


def test_trim_of_an_empty_stream_changes_nothing(queue: list[str]) -> None:
    redis.client().xtrim(STREAM, maxlen=0)
    before = everything()
    assert call("trim", TRIM, "now", *known(queue, 0, 9)) == 0
    assert call("trim_each", TRIM, "now", queue[0], "t") == 0
    assert stream() == []
    assert counts()["queued"] == 120
    assert before.keys() == everything().keys()


@pytest.mark.parametrize("generation", ["before", None])
def test_trim_of_another_generation_changes_nothing(queue: list[str], generation: str | None) -> None:
    if generation is None:
        redis.client().delete(GENERATION)
    before = everything()
    assert call("trim", TRIM, generation or "now", *known(queue, 0, 9)) == 0
    assert call("trim_each", TRIM, generation or "now", queue[0], "t") == 0
    assert everything() == before


def test_trim_goes_by_sequence_number_within_a_millisecond(queue: list[str]) -> None:
    redis.client().xadd(STREAM, {"b": b"", "n": 1}, id="9999999999999-1048574")
    redis.client().xadd(STREAM, {"b": b"", "n": 1}, id="9999999999999-1048575")
    last = ["9999999999999-1048574", "t", 61, 121, 1200, 5, 6]
    assert call("trim", TRIM, "now", queue[0], "t", *last) == 61
    assert stream() == ["9999999999999-1048575"]


# -- trim_each ----------------------------------------------------------------------------------------


def test_trim_each_counts_what_it_removes(queue: list[str]) -> None:
    names = [part for stream_id in queue[:50] for part in (stream_id, "t")]
    assert call("trim_each", TRIM, "now", *names) == 50
    assert stream() == queue[50:]
    assert counts() == {"accepted": 120, "queued": 21, "bytes": 210, "total": 1210}
    stored = {int(hour): int(count) for hour, count in redis.client().hgetall(HOURS).items()}
    assert stored == {490_000: 39, 490_001: 40, 490_002: 20}
    assert call("trim_each", TRIM, "now", *names) == 0
    assert counts()["queued"] == 21


def test_trim_each_stops_at_an_entry_that_is_not_named(queue: list[str]) -> None:
    assert call("trim_each", TRIM, "now", queue[0], "t", queue[1], "", queue[3], "t") == 2
    assert call("trim_each", TRIM, "now", queue[2], "of another") == 0
    assert stream() == queue[2:]


def test_trim_each_counts_a_replay_for_no_hour(queue: list[str]) -> None:
    replay(7, "now")
    names = [part for stream_id in stream() for part in (stream_id, "")]
    assert call("trim_each", TRIM, "now", *names) == 61
    assert counts() == {"accepted": 120, "queued": 0, "bytes": 0, "total": 1000}
    stored = {int(hour): int(count) for hour, count in redis.client().hgetall(HOURS).items()}
    assert stored == {490_000: 39, 490_001: 40, 490_002: 41}


# -- keep_ahead, renumber, recount --------------------------------------------------------------------


def last_id() -> str:
    found: bytes = redis.client().xinfo_stream(STREAM)["last-generated-id"]
    return found.decode()


def test_keep_ahead_only_raises_the_last_id(queue: list[str]) -> None:
    ms, seq = map(int, queue[-1].split("-"))
    assert call("keep_ahead", [GENERATION, STREAM], "now", ms, seq - 1) == 0
    assert call("keep_ahead", [GENERATION, STREAM], "before", ms + 1, 0) == 0
    assert call("keep_ahead", [GENERATION, "no stream"], "now", ms + 1, 0) == 0
    assert last_id() == queue[-1]
    assert call("keep_ahead", [GENERATION, STREAM], "now", ms, seq + 1) == 1
    assert last_id() == f"{ms}-{seq + 1}"
    redis.client().xtrim(STREAM, maxlen=0)
    assert call("keep_ahead", [GENERATION, STREAM], "now", ms - 1, 5) == 0
    assert last_id() == f"{ms}-{seq + 1}"
    assert call("keep_ahead", [GENERATION, STREAM], "now", ms + 1, 0) == 1
    assert last_id() == f"{ms + 1}-0"


def test_renumber_moves_an_entry_to_the_end_as_a_new_one(queue: list[str]) -> None:
    redis.client().xadd(STREAM, {"b": b"x", "n": 1, "t": "t", "o": "1-1"})
    *_, (replayed, _) = redis.client().xrange(STREAM)
    before = counts()
    assert call("renumber", [GENERATION, STREAM], "now", queue[0], "of another") is None
    assert call("renumber", [GENERATION, STREAM], "before", queue[0], "t") is None
    assert call("renumber", [GENERATION, STREAM], "now", queue[3], "t") is not None
    new = call("renumber", [GENERATION, STREAM], "now", replayed, "").decode()
    assert call("renumber", [GENERATION, STREAM], "now", replayed, "") is None
    assert stream()[:-2] == queue[:3] + queue[4:]
    fields = {b"b": b"x", b"n": b"1", b"t": b"t", b"r": b"1-1"}
    assert redis.client().xrange(STREAM, new, new) == [(new.encode(), fields)]
    assert counts() == before


def test_renumber_keeps_the_first_id_of_an_entry(queue: list[str]) -> None:
    new = call("renumber", [GENERATION, STREAM], "now", queue[0], "t").decode()
    newest = call("renumber", [GENERATION, STREAM], "now", new, "t").decode()
    for stream_id in (new, newest):
        assert stream_id not in queue
    ((_, fields),) = redis.client().xrange(STREAM, newest, newest)
    assert fields[b"r"] == queue[0].encode()


def test_recount_counts_once() -> None:
    keys = [GENERATION, ACCEPTED, TOTAL, TRIMMED]
    redis.client().mset({GENERATION: "now", ACCEPTED: 10, TOTAL: 20})
    assert call("recount", keys, "before", 0, 3, 99) == 0
    assert call("recount", keys, "now", 5, 3, 99) == 0
    assert call("recount", keys, "now", 0, 3, 99) == 1
    assert call("recount", keys, "now", 0, 3, 99) == 0
    assert redis.client().mget(ACCEPTED, TOTAL, TRIMMED) == [b"13", b"23", b"99"]


# -- take ---------------------------------------------------------------------------------------------


TOTAL_BYTES = redis_keys.TOTAL_BYTES


def take(*, datasets: int = 1, size: int = 1000, rest: int = 0, due_by: int = 0) -> list[int]:
    """Return what take.lua returns: 1 if it was the project's turn, else 0, and the datasets."""
    return [int(each) for each in call("take", [TURNS, PENDING, TOTAL_BYTES], 4, 30_000, datasets, size, rest, due_by)]


def test_take_returns_the_longest_due_datasets_and_sets_a_lease() -> None:
    client, began = redis.client(), now_ms()
    client.zadd(PENDING, {"3": began, "1": 1000, "2": 2000})
    client.zadd(TURNS, {"4": 1000})
    assert [take(datasets=2), take(datasets=2), take()] == [[1, 1, 2], [1, 3], [1]]
    scores = dict(client.zrange(PENDING, 0, -1, withscores=True))
    assert scores.keys() == {b"1", b"2", b"3"}
    assert all(began + 30_000 <= score <= now_ms() + 30_000 for score in scores.values())


def test_take_leaves_what_was_due_later_than_asked_for() -> None:
    client, began = redis.client(), now_ms()
    client.zadd(PENDING, {"1": began - 2000, "2": began - 1000})
    client.zadd(TURNS, {"4": 1000})
    assert take(datasets=2, due_by=began - 3000) == [1]
    assert client.zscore(TURNS, "4") == began - 2000
    assert [take(datasets=2, due_by=began - 1500), take(datasets=2, due_by=began + 60_000)] == [[1, 1], [1, 2]]


def test_take_takes_datasets_with_few_bytes_together() -> None:
    client = redis.client()
    sizes = {"1": 5000, "2": 400, "3": 600, "4": 1}
    client.zadd(PENDING, {name: number for number, name in enumerate(sizes)})
    client.mset({f"{TOTAL_BYTES}:{name}": size for name, size in sizes.items()})
    assert [take(datasets=9), take(datasets=9), take(datasets=9)] == [[1, 1], [1, 2, 3], [1, 4]]


def test_take_lets_datasets_rest_while_many_are_due() -> None:
    client, began = redis.client(), now_ms()
    client.zadd(TURNS, {"4": 1000})
    client.zadd(PENDING, {"1": began - 70_000, "2": began - 1000, "3": began - 1000})
    assert take(datasets=2, rest=20_000) == [1, 1]
    assert take(datasets=2, rest=20_000) == [1, 2, 3]  # not more datasets are due than one call takes
    client.zadd(PENDING, {"1": began - 3000, "2": began - 1000, "3": began - 1000})
    assert take(datasets=2, rest=20_000) == [1]
    assert client.zscore(TURNS, "4") == began + 17_000
    assert take(datasets=2, rest=20_000) == [0]


def test_take_moves_the_turn_to_now_then_to_the_next_due_time() -> None:
    client, began = redis.client(), now_ms()
    client.zadd(PENDING, {"1": 1000})
    client.zadd(TURNS, {"4": 1000})
    assert take() == [1, 1]
    assert began <= client.zscore(TURNS, "4") <= now_ms()
    assert take() == [1]
    assert client.zscore(TURNS, "4") == client.zscore(PENDING, "1")
    before = everything()
    assert take() == [0]
    assert everything() == before


def test_take_forgets_a_project_without_pending_datasets() -> None:
    redis.client().zadd(TURNS, {"4": 1000})
    assert take() == [1]
    assert everything() == {}


@pytest.mark.parametrize("rest", [0, 20_000])
def test_take_takes_what_was_due_before_the_clock_was_set_back(rest: int) -> None:
    later = now_ms() + 3_600_000
    redis.client().zadd(PENDING, {"1": later, "2": later})
    redis.client().zadd(TURNS, {"4": later})
    assert take(rest=rest) == [1, 1]


# -- end_drain ----------------------------------------------------------------------------------------


def test_end_drain_removes_a_dataset_with_an_empty_stream() -> None:
    redis.client().zadd(PENDING, {"13": 1, "14": 1})
    assert call("end_drain", [PENDING, STREAM, TURNS], 13, 4) == 1
    assert redis.client().zrange(PENDING, 0, -1) == [b"14"]


def test_end_drain_makes_a_dataset_with_more_entries_due_now(queue: list[str]) -> None:
    redis.client().zadd(PENDING, {"13": now_ms() + 60_000})
    assert call("end_drain", [PENDING, STREAM, TURNS], 13, 4) == 0
    assert redis.client().zscore(PENDING, "13") <= now_ms()


def test_end_drain_adds_a_dataset_that_was_not_pending(queue: list[str]) -> None:
    assert call("end_drain", [PENDING, STREAM, TURNS], 13, 4) == 0
    assert redis.client().zscore(PENDING, "13") <= now_ms()
    assert redis.client().zscore(TURNS, "4") <= now_ms()


# -- lock ---------------------------------------------------------------------------------------------


def test_lock_is_acquired_once_and_released_by_its_token() -> None:
    assert call("lock", [LOCK, DEATHS], "mine", "acquire", 30_000) == 1
    before = everything()
    for what in ("acquire", "renew", "release"):
        assert call("lock", [LOCK, DEATHS], "theirs", what, 30_000) == 0
        assert everything() == before
    assert call("lock", [LOCK, DEATHS], "mine", "release", 30_000) == 1
    assert everything() == {}


def test_lock_is_renewed_by_its_token() -> None:
    call("lock", [LOCK, DEATHS], "mine", "acquire", 1000)
    assert call("lock", [LOCK, DEATHS], "mine", "renew", 30_000) == 1
    assert 29_000 < redis.client().pttl(LOCK) <= 30_000


@pytest.mark.parametrize("what", ["renew", "release"])
def test_lock_that_is_gone_is_not_made_again(what: str) -> None:
    assert call("lock", [LOCK, DEATHS], "mine", what, 30_000) == 0
    assert everything() == {}


def test_lock_expires_after_its_lease() -> None:
    call("lock", [LOCK, DEATHS], "mine", "acquire", 30_000)
    assert 29_000 < redis.client().pttl(LOCK) <= 30_000


def test_lock_counts_the_drains_that_never_released_it() -> None:
    for token in ("one", "two", "three"):
        assert call("lock", [LOCK, DEATHS], token, "acquire", 30_000) == 1
        assert call("lock", [LOCK, DEATHS], "other", "acquire", 30_000) == 0
        redis.client().delete(LOCK)  # its drain died, and the lease is over
    assert redis.client().hget(DEATHS, "deaths") == b"3"
    call("lock", [LOCK, DEATHS], "four", "acquire", 30_000)
    call("lock", [LOCK, DEATHS], "three", "release", 30_000)
    assert redis.client().hget(DEATHS, "deaths") == b"4"
    redis.client().hset(DEATHS, "left", 5)
    assert call("lock", [LOCK, DEATHS], "four", "release", 30_000) == 1
    assert redis.client().hgetall(DEATHS) == {b"left": b"5"}


# -- slots --------------------------------------------------------------------------------------------


def test_slots_that_were_not_used_for_long_are_forgotten() -> None:
    client = redis.client()
    client.mset({"old": f"7 {now_ms() - 60_001}-0", "new": f"9 {now_ms() - 50_000}-12"})
    client.sadd("slots", "old", "new", "gone")
    assert call("forget_slots", ["slots", "old", "new", "gone"], 60_000) == 2
    assert client.smembers("slots") == {b"new"}
    assert client.exists("old", "new") == 1
