"""The quota's Lua scripts, each alone against a real Redis."""

import pytest

from config.common import redis
from quotas.scripts import script

MEMBER = "7:2026-11"


def seed(limit: int = 1000, used: int = 42) -> int:
    found: int = script("seed")(keys=["limit", "total", "delta"], args=[limit, used, 8_640_000])
    return found


def settle(written: int, limit: int = 1000) -> int:
    left: int = script("settle")(keys=["total", "delta", "dirty", "limit"], args=[written, MEMBER, limit, 8640000])
    return left


def counters() -> list[bytes | None]:
    found: list[bytes | None] = redis.client().mget("limit", "total", "delta")
    return found


def is_dirty() -> bool:
    return bool(redis.client().sismember("dirty", MEMBER))


# -- seed ---------------------------------------------------------------------------------------------


def test_seed_puts_back_what_is_missing() -> None:
    assert seed() == 1
    assert counters() == [b"1000", b"42", None]
    assert 8_639_000 < redis.client().ttl("total") <= 8_640_000
    assert redis.client().ttl("limit") == -1


def test_seed_leaves_alone_what_is_there() -> None:
    redis.client().mset({"limit": -1, "total": 0, "delta": 5})
    seed()
    assert counters() == [b"-1", b"0", b"5"]


def test_seed_adds_what_was_not_written_yet_to_a_total_that_was_lost() -> None:
    redis.client().mset({"limit": 10, "delta": 5})
    seed()
    assert counters() == [b"10", b"47", b"5"]


def test_seed_is_exact_where_a_float_would_be_written_as_one() -> None:
    seed(limit=10**15, used=123_456_789_012_345)
    assert counters() == [b"1000000000000000", b"123456789012345", None]


# -- settle -------------------------------------------------------------------------------------------


@pytest.fixture
def charged() -> None:
    """52 records charged, of which the database knew 42."""
    redis.client().mset({"total": 52, "delta": 10})
    redis.client().sadd("dirty", MEMBER, "8:2026-11")


@pytest.mark.usefixtures("charged")
def test_what_was_written_is_taken_off_and_the_user_is_not_dirty_any_more() -> None:
    assert settle(52) == 0
    assert counters() == [None, b"52", None]
    assert redis.client().smembers("dirty") == {b"8:2026-11"}


@pytest.mark.parametrize("written", [42, 52, 60])
@pytest.mark.usefixtures("charged")
def test_a_flush_gives_the_total_the_time_to_live_that_a_charge_ended(written: int) -> None:
    assert redis.client().ttl("total") == -1
    settle(written)
    assert 8639990 <= redis.client().ttl("total") <= 8640000


@pytest.mark.usefixtures("charged")
def test_what_was_charged_since_stays_and_so_does_the_user() -> None:
    redis.client().mset({"total": 55, "delta": 13})
    assert settle(52) == 3
    assert counters() == [None, b"55", b"3"]
    assert is_dirty()


@pytest.mark.usefixtures("charged")
def test_of_two_flushes_that_wrote_the_same_neither_takes_off_what_was_charged_between_them() -> None:
    assert settle(52) == 0
    redis.client().mset({"total": 55, "delta": 3})
    redis.client().sadd("dirty", MEMBER)
    assert settle(52) == 3
    assert counters() == [None, b"55", b"3"]
    assert is_dirty()


@pytest.mark.usefixtures("charged")
def test_a_flush_that_was_overtaken_leaves_work_for_another_and_loses_nothing() -> None:
    redis.client().mset({"total": 55, "delta": 13})
    assert settle(55) == 0
    assert settle(52) == 3
    assert is_dirty()
    assert settle(55) == 0
    assert not is_dirty()


def test_a_redis_that_was_wiped_meanwhile_is_left_as_it_is() -> None:
    assert settle(52) == 0
    assert redis.client().dbsize() == 0


@pytest.mark.usefixtures("charged")
def test_a_total_below_what_the_database_has_is_raised_to_it() -> None:
    assert settle(60) == 0
    assert counters() == [None, b"60", None]
    assert not is_dirty()


@pytest.mark.usefixtures("charged")
def test_a_user_whose_limit_was_changed_meanwhile_stays_dirty() -> None:
    redis.client().set("limit", 5)
    assert settle(52, limit=1000) == 0
    assert counters() == [b"5", b"52", None]
    assert is_dirty()
    assert settle(52, limit=5) == 0
    assert not is_dirty()
