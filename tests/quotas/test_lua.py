"""The quota's Lua scripts, each alone in a real Redis."""

import pytest
from redis.exceptions import ResponseError

from config.common import redis
from quotas.scripts import script

MEMBER = "7:2026-11"


def seed(limit: int = 1000, used: int = 42) -> int:
    found: int = script("seed")(keys=["limit", "total", "delta"], args=[limit, used, 8_640_000])
    return found


def note_flushed(written: int, limit: int = 1000) -> int:
    left: int = script("note_flushed")(
        keys=["total", "delta", "dirty", "limit"], args=[written, MEMBER, limit, 8640000]
    )
    return left


def counters() -> list[bytes | None]:
    found: list[bytes | None] = redis.client().mget("limit", "total", "delta")
    return found


def is_dirty() -> bool:
    return bool(redis.client().sismember("dirty", MEMBER))


@pytest.mark.parametrize("name", ["seed", "note_flushed"])
def test_a_wrong_number_of_keys_is_refused(name: str) -> None:
    with pytest.raises(ResponseError, match=f"{name}.lua: wrong number"):
        script(name)(keys=["limit"], args=[1])


# -- seed ---------------------------------------------------------------------------------------------


def test_seed_sets_missing_counters() -> None:
    assert seed() == 1
    assert counters() == [b"1000", b"42", None]
    assert 8_639_000 < redis.client().ttl("total") <= 8_640_000
    assert redis.client().ttl("limit") == -1


def test_seed_keeps_existing_counters() -> None:
    redis.client().mset({"limit": -1, "total": 0, "delta": 5})
    seed()
    assert counters() == [b"-1", b"0", b"5"]


def test_seed_adds_the_delta_to_a_lost_total() -> None:
    redis.client().mset({"limit": 10, "delta": 5})
    seed()
    assert counters() == [b"10", b"47", b"5"]


def test_seed_writes_large_numbers_without_an_exponent() -> None:
    seed(limit=10**15, used=123_456_789_012_345)
    assert counters() == [b"1000000000000000", b"123456789012345", None]


# -- note_flushed -------------------------------------------------------------------------------------------


@pytest.fixture
def charged() -> None:
    """Charge 52 records. A flush has already written 42 of them to the database."""
    redis.client().mset({"total": 52, "delta": 10})
    redis.client().sadd("dirty", MEMBER, "8:2026-11")


@pytest.mark.usefixtures("charged")
def test_flushed_usage_is_subtracted_and_the_flag_cleared() -> None:
    assert note_flushed(52) == 0
    assert counters() == [None, b"52", None]
    assert redis.client().smembers("dirty") == {b"8:2026-11"}


@pytest.mark.parametrize("written", [42, 52, 60])
@pytest.mark.usefixtures("charged")
def test_a_flush_restores_the_time_to_live_of_the_total(written: int) -> None:
    assert redis.client().ttl("total") == -1
    note_flushed(written)
    assert 8639990 <= redis.client().ttl("total") <= 8640000


@pytest.mark.usefixtures("charged")
def test_charges_since_the_flush_keep_the_delta_and_the_flag() -> None:
    redis.client().mset({"total": 55, "delta": 13})
    assert note_flushed(52) == 3
    assert counters() == [None, b"55", b"3"]
    assert is_dirty()


@pytest.mark.usefixtures("charged")
def test_two_equal_flushes_keep_charges_between_them() -> None:
    assert note_flushed(52) == 0
    redis.client().mset({"total": 55, "delta": 3})
    redis.client().sadd("dirty", MEMBER)
    assert note_flushed(52) == 3
    assert counters() == [None, b"55", b"3"]
    assert is_dirty()


@pytest.mark.usefixtures("charged")
def test_a_slower_flush_leaves_the_flag_and_loses_nothing() -> None:
    redis.client().mset({"total": 55, "delta": 13})
    assert note_flushed(55) == 0
    assert note_flushed(52) == 3
    assert is_dirty()
    assert note_flushed(55) == 0
    assert not is_dirty()


def test_a_redis_wiped_during_a_flush_stays_empty() -> None:
    assert note_flushed(52) == 0
    assert redis.client().dbsize() == 0


@pytest.mark.usefixtures("charged")
def test_a_total_below_the_databases_usage_is_set_to_that_usage() -> None:
    assert note_flushed(60) == 0
    assert counters() == [None, b"60", None]
    assert not is_dirty()


@pytest.mark.usefixtures("charged")
def test_a_limit_changed_during_a_flush_keeps_the_flag() -> None:
    redis.client().set("limit", 5)
    assert note_flushed(52, limit=1000) == 0
    assert counters() == [b"5", b"52", None]
    assert is_dirty()
    assert note_flushed(52, limit=5) == 0
    assert not is_dirty()
