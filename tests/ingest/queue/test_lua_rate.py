"""The rate limit in `admit.lua`: exact in any minute, and a refusal changes nothing."""

from typing import Any

import pytest

from config.common import redis
from tests.ingest.queue.admitting import GRACE, admit, entries, set_up, state

PER_MINUTE = (5, 60)


def seconds_of_redis() -> int:
    return int(redis.client().time()[0])


def sent(**seconds_ago: int) -> None:
    """Make the key have sent records: `s10=3` is three records ten seconds ago."""
    now = seconds_of_redis()
    redis.client().hset("rate", mapping={str(now - int(ago[1:])): count for ago, count in seconds_ago.items()})


def test_records_up_to_the_limit_are_accepted() -> None:
    set_up()
    assert [admit(number=at, count=1, rate=PER_MINUTE)[0] for at in range(1, 7)] == ["accepted"] * 5 + ["too_fast"]
    assert len(entries()) == 5
    assert sum(map(int, redis.client().hvals("rate"))) == 5
    assert 55 <= redis.client().ttl("rate") <= 62


def test_a_refusal_changes_nothing_and_says_when_there_is_room() -> None:
    set_up()
    redis.client().set("queue:room", 2**53)
    sent(s50=2, s20=1, s10=2)
    before = state()
    for count, wait in ((1, 11), (2, 11), (3, 41), (4, 51), (5, 51)):
        began = seconds_of_redis()
        outcome, _, seconds, records = admit(count=count, rate=PER_MINUTE)
        assert (outcome, records) == ("too_fast", 5)
        assert wait - 2 - (seconds_of_redis() - began) <= seconds <= wait
    assert state() == before


def test_more_than_the_limit_never_fits() -> None:
    set_up()
    assert admit(count=6, rate=PER_MINUTE)[2:] == [0, 0]
    assert entries() == []


def test_old_records_do_not_count_and_are_forgotten() -> None:
    set_up()
    sent(s62=5, s61=0, s3=4)
    assert admit(count=1, rate=PER_MINUTE)[0] == "accepted"
    assert sorted(redis.client().hvals("rate")) == [b"1", b"4"]
    assert admit(number=2, count=1, rate=PER_MINUTE)[0] == "too_fast"


def test_records_from_a_clock_that_was_ahead_do_not_count() -> None:
    """After a failover to a server whose clock is an hour behind, the counts of the old server are in the future."""
    set_up()
    ahead = seconds_of_redis() + 3600
    redis.client().hset("rate", str(ahead), 5)
    assert admit(count=1, rate=PER_MINUTE)[0] == "accepted"
    assert redis.client().hvals("rate") == [b"1"]


def test_a_second_counts_until_all_of_it_is_a_minute_old() -> None:
    set_up()
    sent(s59=5)
    assert admit(count=1, rate=PER_MINUTE)[0] == "too_fast"


def test_a_key_is_free_again_at_the_second_that_the_refusal_named() -> None:
    set_up()
    sent(s40=4, s20=1)
    _, _, seconds, _ = admit(count=3, rate=PER_MINUTE)
    redis.client().delete("rate")
    sent(**{f"s{40 + seconds}": 4, f"s{20 + seconds}": 1})  # as if `seconds` seconds had passed
    assert admit(count=3, rate=PER_MINUTE)[0] == "accepted"


def test_repeats_and_other_refusals_are_not_counted() -> None:
    set_up(limit=14)
    first = admit(count=4, idempotency="once", rate=PER_MINUTE)
    assert first[0] == "accepted"
    assert admit(count=4, rate=PER_MINUTE)[3] == first[3], "the reply that the slot remembers"
    assert admit(number=2, count=4, idempotency="once", rate=PER_MINUTE)[0] == "repeated"
    assert admit(number=3, count=1, rate=PER_MINUTE)[0] == "over_quota"
    assert redis.client().hvals("rate") == [b"4"]


@pytest.mark.parametrize("key", [None, "once"])
@pytest.mark.parametrize("grace", [(), GRACE])
def test_the_limit_goes_together_with_every_other_part(key: str | None, grace: tuple[Any, ...]) -> None:
    set_up()
    assert admit(idempotency=key, grace=grace, rate=PER_MINUTE)[0] == "accepted"
    assert redis.client().hvals("rate") == [b"2"]
    assert redis.client().exists("once") == (key is not None)
    assert redis.client().hexists("grace", "records:3") == bool(grace)
