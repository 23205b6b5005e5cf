"""`admit.lua` alone, in a real Redis: each outcome, and that a refusal changes nothing."""

import time
from typing import Any

import pytest
from redis.exceptions import ResponseError

from config.common import redis
from tests.ingest.queue.admitting import GRACE, KEYS, admit, entries, set_up, state

# -- accepted -----------------------------------------------------------------------------------------


def test_an_acceptance_charges_queues_and_marks_in_one_step() -> None:
    client = redis.client()
    set_up()
    before = int(time.time() * 1000)
    outcome, at, generation, stream_id, count, limit, used = admit(idempotency="once")
    assert (outcome, generation, count, limit, used) == ("accepted", "feedf00d", 2, 1000, 12)
    assert before - 2 <= at <= int(time.time() * 1000) + 2
    assert client.mget("total", "delta", "bytes", "accepted") == [b"12", b"2", b"7", b"2"]
    assert client.smembers("dirty") == {b"7:2026-11"}
    assert entries() == [(stream_id, {b"b": b"[{},{}]", b"f": b"a", b"n": b"2", b"v": b"5", b"t": b"req_123"})]
    assert client.mget("dataset_accepted", "dataset_queued", "bytes:13") == [b"2", b"2", b"7"]
    assert client.zrange("pending", 0, -1, withscores=True) == [(b"13", at)]
    assert client.zrange("turns", 0, -1, withscores=True) == [(b"4", at)]
    assert client.hgetall("last_used") == {b"3": str(at).encode()}
    assert 86390 <= client.ttl("once") <= 86400
    assert client.smembers("slots") == {b"slot"}
    assert client.mget("revision", "limit", "generation") == [b"r1", b"1000", b"feedf00d"]
    assert {key.decode() for key in state()} == {*KEYS.values(), "once", "known_keys"} - {"queue:room"}


def test_the_next_acceptance_adds_to_the_first() -> None:
    client = redis.client()
    set_up()
    first = admit(number=1)
    second = admit(number=2, count=3, body="[{},{},{}]", key="")
    assert second[0] == "accepted"
    assert second[6] == 15
    assert client.mget("total", "delta", "bytes", "accepted") == [b"15", b"5", b"17", b"5"]
    assert client.mget("dataset_accepted", "dataset_queued", "bytes:13") == [b"5", b"5", b"17"]
    assert [stream_id for stream_id, _ in entries()] == [first[3], second[3]]
    assert client.zscore("pending", "13") == first[1], "the dataset stays due from its first entry on"
    assert client.zscore("turns", "4") == first[1]
    assert client.hkeys("last_used") == [b"3"]


def test_without_a_limit_everything_fits() -> None:
    set_up(limit=-1, total=10**15, bytes=10**15, accepted=10**15)
    assert admit(total_bytes=2 * 10**15)[4:] == [2, -1, 10**15 + 2]
    assert admit(total_bytes=2 * 10**15)[4:] == [2, -1, 10**15 + 2], "the reply that the slot remembers"
    assert redis.client().mget("total", "bytes", "accepted") == [b"%d" % (10**15 + more) for more in (2, 7, 2)]


def test_repeat_after_a_lost_quota_is_accepted_once() -> None:
    set_up()
    first = admit()
    redis.client().delete("limit", "total")
    again = admit()
    assert [again[0], *again[2:]] == ["accepted", *first[2:5], -1, 0]
    assert len(entries()) == 1


def test_the_last_record_of_a_quota_fits() -> None:
    set_up(limit=12)
    assert admit()[0] == "accepted"
    assert admit(number=2, count=1)[0] == "over_quota"


def test_an_admission_after_a_flush_marks_the_user_again() -> None:
    client = redis.client()
    set_up()
    admit(number=1)
    client.delete("delta", "dirty")  # as a flush does
    admit(number=2)
    assert client.smembers("dirty") == {b"7:2026-11"}


def test_the_last_byte_of_a_backlog_fits() -> None:
    set_up(bytes=193)
    redis.client().set("bytes:13", 93)
    assert admit()[0] == "accepted"
    assert admit(number=2, body="")[0] == "accepted"
    assert admit(number=3, body="x")[0] == "full"


@pytest.mark.parametrize("key", [None, "once"])
def test_records_of_a_grace_period_are_marked_and_counted(key: str | None) -> None:
    client = redis.client()
    set_up()
    first = admit(idempotency=key, grace=GRACE)
    assert (first[0], first[4], first[6]) == ("accepted", 2, 12)
    fields = {b"b": b"[{},{}]", b"f": b"a", b"n": b"2", b"v": b"5", b"t": b"req_123"}
    assert entries() == [(first[3], {**fields, b"e": b"4 01"})]
    assert client.hgetall("grace") == {b"records:3": b"1", b"last:3": str(first[1]).encode()}
    assert 3590 <= client.ttl("grace") <= 3600
    assert admit(idempotency=key, grace=GRACE)[3] == first[3], "the reply that the slot remembers"
    second = admit(number=2, key="", grace=(*GRACE[:2], 2, "", 60))
    assert entries()[1] == (second[3], fields)
    assert client.hgetall("grace") == {b"records:3": b"3", b"last:3": str(second[1]).encode()}


def test_end_of_a_grace_period_changes_nothing() -> None:
    set_up()
    at = admit(count=0, key="")[1]
    before = state()
    for ends in (1, at):
        assert admit(number=2, grace=(ends, *GRACE[1:]))[0] == "stale"
    assert state() == before
    assert admit(number=2, grace=(at + 60_000, *GRACE[1:]))[0] == "accepted"


@pytest.mark.parametrize("grace", [GRACE[:4], (*GRACE, 1)])
def test_wrong_number_of_arguments_is_refused(grace: tuple[Any, ...]) -> None:
    set_up()
    with pytest.raises(ResponseError, match="wrong number"):
        admit(grace=grace)


# -- not accepted -------------------------------------------------------------------------------------


def prepare(outcome: str) -> None:
    client = redis.client()
    set_up()
    assert admit(idempotency="known", number=0)[0] == "accepted"
    if outcome == "no limit":
        client.delete("limit")
    elif outcome == "no total":
        client.delete("total")
    elif outcome == "no generation":
        client.delete("generation")
    elif outcome == "wiped revision":
        client.delete("revision")
    elif outcome == "blocked":
        client.set("limit", 0)
    elif outcome == "no room":
        client.set("queue:room", 50)
    elif outcome == "lowered":
        client.set("limit", 5)


REFUSALS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "stale": ({"revision": "r0"}, ["stale"]),
    "a change under way": ({"revision": "~r1"}, ["stale"]),
    "wiped revision": ({}, ["stale"]),
    "past the deadline": ({"deadline": 1}, ["late"]),
    "an earlier number": ({"number": -1}, ["late"]),
    "no limit": ({}, ["unseeded"]),
    "no total": ({}, ["unseeded"]),
    "no generation": ({}, ["unseeded"]),
    "another generation": ({"generation": "0ddba110"}, ["unseeded"]),
    "over quota": ({"count": 989}, ["over_quota", 1000, 12]),
    "blocked": ({"count": 1}, ["over_quota", 0, 12]),
    "lowered": ({"count": 1}, ["over_quota", 5, 12]),
    "another body": ({"idempotency": "known", "digest": "digest-2"}, ["key_reused"]),
    "dataset full": ({"body": "x" * 94}, ["full", "dataset"]),
    "all full": ({"dataset_bytes": 10**9, "body": "x" * 194}, ["full", "all"]),
    "no room": ({"body": "x" * 44}, ["full", "memory"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_request_that_is_not_accepted_changes_nothing(name: str) -> None:
    changes, expected = REFUSALS[name]
    prepare(name)
    before = state()
    outcome, at, *rest = admit(**{"number": 1, **changes})
    assert [outcome, *rest] == expected
    assert abs(at - time.time() * 1000) < 60_000
    assert state() == before


def test_a_known_key_gets_its_first_answer_and_changes_nothing() -> None:
    set_up()
    first = admit(idempotency="known", number=1)
    before = state()
    again = admit(idempotency="known", number=2, trace="another", version=6)
    assert again[0] == "repeated"
    assert again[2:] == [*first[2:], ""]
    assert state() == before


def test_known_key_gets_the_first_answer_about_refused_records() -> None:
    set_up()
    admit(idempotency="known", number=1, rejected="a b\0 17 \n%")
    assert admit(idempotency="known", number=2, rejected="more")[7] == "a b\0 17 \n%"


def test_known_key_gets_its_first_answer_when_the_queue_is_full() -> None:
    set_up(limit=12)
    first = admit(idempotency="known", number=1)
    redis.client().set("bytes:13", 10**9)
    assert admit(idempotency="known", number=2)[0] == "repeated"
    assert admit(idempotency="known", number=3)[2:5] == first[2:5]
    assert admit(idempotency="new", number=4)[0] == "over_quota"


def test_a_key_that_was_forgotten_is_new() -> None:
    set_up()
    admit(idempotency="known", number=1, remember=1)
    redis.client().persist("known")
    redis.client().pexpire("known", 1)
    deadline = time.monotonic() + 30
    while redis.client().exists("known"):
        assert time.monotonic() < deadline
    assert admit(idempotency="known", number=2, digest="digest-2")[0] == "accepted"
    assert len(entries()) == 2


def test_checks_come_in_order() -> None:
    """At first, everything is wrong. Each step corrects the first problem."""
    set_up()
    admit(number=5)
    redis.client().delete("limit")
    wrong: dict[str, Any] = {"number": 4, "deadline": 1, "revision": "r0", "count": 989, "body": "x" * 101}
    assert admit(**wrong)[0] == "late"
    wrong["number"] = 6
    assert admit(**wrong)[0] == "late"
    wrong["deadline"] = 2**53
    assert admit(**wrong)[0] == "stale"
    wrong["revision"] = "r1"
    assert admit(**wrong)[0] == "unseeded"
    redis.client().set("limit", 1000)
    assert admit(**wrong)[0] == "over_quota"
    wrong["count"] = 988
    assert admit(**wrong)[0] == "full"
    wrong["body"] = "x" * 93
    assert admit(**wrong)[0] == "accepted"


# -- sent again ---------------------------------------------------------------------------------------


def test_repeat_gets_the_reply_that_was_lost() -> None:
    """The request is not accepted twice, even if the state has changed. The reply has the present quota."""
    set_up()
    first = admit(number=1)
    redis.client().mset({"revision": "r2", "limit": 0, "total": 15})
    before = state()
    other: list[dict[str, Any]] = [{}, {"deadline": 1}, {"body": "another"}]
    for changes in other:
        again = admit(number=1, **changes)
        assert [again[0], *again[2:]] == ["accepted", *first[2:5], 0, 15]
    assert state() == before


def test_a_late_copy_of_an_earlier_request_does_nothing() -> None:
    set_up()
    admit(number=1)
    admit(number=3)
    before = state()
    for number in (0, 1, 2):
        assert admit(number=number)[0] == "late"
    assert state() == before
    assert admit(number=4)[0] == "accepted"


def test_repeat_of_a_refused_request_is_decided_again() -> None:
    set_up(limit=0)
    assert admit(number=1)[0] == "over_quota"
    redis.client().set("limit", 1000)
    assert admit(number=1)[0] == "accepted"
    assert len(entries()) == 1


def test_every_slot_counts_for_itself() -> None:
    set_up()
    first, second = admit(slot="a", number=1), admit(slot="b", number=1)
    assert first[3] != second[3]
    assert admit(slot="a", number=1)[3] == first[3]
    assert admit(slot="b", number=1)[3] == second[3]
    assert len(entries()) == 2
