"""`admit.lua` alone, against a real Redis: each outcome, and that a refusal changes nothing."""

import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from redis import Redis
from redis.exceptions import ResponseError

from config.common import redis
from ingest.queue.scripts import script
from tests.support.outages import everything_in, redis_full

KEYS = {
    "revision": "revision",
    "limit": "limit",
    "total": "total",
    "delta": "delta",
    "generation": "generation",
    "dataset_accepted": "dataset_accepted",
    "dataset_queued": "dataset_queued",
    "dataset_bytes": "bytes:13",
    "bytes": "bytes",
    "accepted": "accepted",
    "stream": "stream",
    "pending": "pending",
    "dirty": "dirty",
    "last_used": "last_used",
    "slots": "slots",
    "room": "queue:room",
    "turns": "turns",
    "slot": "slot",
}
ARGS = {
    "revision": "r1",
    "number": 1,
    "deadline": 2**53,
    "count": 2,
    "dataset": 13,
    "dirty": "7:2026-11",
    "version": 5,
    "format": "a",
    "trace": "req_123",
    "body": "[{},{}]",
    "dataset_bytes": 100,
    "total_bytes": 200,
    "key": 3,
    "project": 4,
    "share": 1,
    "generation": "feedf00d",
    "digest": "digest-1",
    "remember": 86400,
    "max_keys": 3,
    "rejected": "",
}
OF_IDEMPOTENCY = {"digest", "remember", "max_keys", "rejected"}  # arguments that are absent without the key


def admit(idempotency: str | None = None, slot: str = "slot", **changes: Any) -> list[Any]:
    """Run the script with the example's arguments, some of them changed; its reply, as text and numbers."""
    assert changes.keys() <= ARGS.keys()
    keys = [*{**KEYS, "slot": slot}.values(), *([idempotency, "known_keys"] if idempotency else [])]
    args = {**ARGS, **changes}
    if idempotency is None:
        args = {name: value for name, value in args.items() if name not in OF_IDEMPOTENCY}
    reply = script("admit")(keys=keys, args=[*args.values()])
    return [value.decode() if isinstance(value, bytes) else value for value in reply]


def set_up(**changes: Any) -> None:
    """A project at revision r1, whose owner has used 10 records of 1000."""
    values = {"revision": "r1", "limit": 1000, "total": 10, "generation": "feedf00d", **changes}
    redis.client().mset({name: value for name, value in values.items() if value is not None})


def state() -> dict[bytes, bytes]:
    return everything_in(redis.client())


def entries() -> list[tuple[str, dict[bytes, bytes]]]:
    return [(stream_id.decode(), fields) for stream_id, fields in redis.client().xrange("stream")]


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
    assert client.zscore("pending", "13") == first[1], "what is due stays due"
    assert client.zscore("turns", "4") == first[1]
    assert client.hkeys("last_used") == [b"3"]


def test_without_a_limit_everything_fits() -> None:
    set_up(limit=-1, total=10**15, bytes=10**15, accepted=10**15)
    assert admit(total_bytes=2 * 10**15)[4:] == [2, -1, 10**15 + 2]
    assert admit(total_bytes=2 * 10**15)[4:] == [2, -1, 10**15 + 2], "the same, of its slot"
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


def test_a_user_is_dirty_as_long_as_there_is_a_delta() -> None:
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
def test_what_is_not_accepted_changes_nothing(name: str) -> None:
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
    assert again[0] == "replayed"
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
    assert admit(idempotency="known", number=2)[0] == "replayed"
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
    """Everything is wrong at once. Each step corrects the first problem."""
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


# -- the keys of a project ----------------------------------------------------------------------------


def known_keys() -> dict[int, int]:
    """When keys are forgotten, in seconds since the epoch -> how many."""
    return {int(ends): int(count) for ends, count in redis.client().hgetall("known_keys").items()}


def test_a_project_has_as_many_keys_as_it_may() -> None:
    set_up()
    for number in (1, 2, 3):
        assert admit(idempotency=f"k{number}", number=number)[0] == "accepted"
    assert sum(known_keys().values()) == 3
    (ends,) = known_keys()
    assert 86400 < ends - time.time() <= 86400 + 3600
    assert 86400 + 3590 <= redis.client().ttl("known_keys") <= 86400 + 3600
    before = state()
    outcome, at, seconds = admit(idempotency="k4", number=4)
    assert outcome == "too_many_keys"
    assert 0 <= at / 1000 + seconds - ends < 1
    assert state() == before
    assert admit(idempotency="k3", number=4)[0] == "replayed", "a key that is known"
    assert admit(number=4)[0] == "accepted", "no key"


def test_keys_that_were_forgotten_make_room_for_others() -> None:
    set_up()
    now = int(time.time())
    redis.client().hset("known_keys", mapping={str(now - 1): 2, str(now + 1000): 1, str(now + 2000): 1})
    assert admit(idempotency="k1", number=1)[0] == "accepted"
    assert now - 1 not in known_keys()
    assert sum(known_keys().values()) == 3
    outcome, _, seconds = admit(idempotency="k2", number=2)
    assert (outcome, 990 < seconds <= 1001) == ("too_many_keys", True)


# -- the share of a project ---------------------------------------------------------------------------


def in_queue(**sizes: int) -> None:
    """What is queued, by `d<id>` for datasets of the project, and `others` for all other projects."""
    client = redis.client()
    client.set("bytes", sum(sizes.values()))
    for name, size in sizes.items():
        if name != "others":
            client.set(f"bytes:{name[1:]}", size)
            client.zadd("pending", {name[1:]: 1})


def outcome(**changes: Any) -> list[Any]:
    """Return the outcome of a body of 7 bytes. 1,000 bytes may be queued, half of them by one project."""
    limits = {"share": 0.5, "total_bytes": 1000, "dataset_bytes": 1000, "key": ""}
    return admit(**{**limits, **changes})[::2][:2]


def test_share_limits_all_datasets_of_a_project_together() -> None:
    set_up()
    in_queue(d13=243, d14=250)
    assert outcome(number=1)[0] == "accepted"  # 500 of 1,000
    before = state()
    assert outcome(number=2, body="x") == ["full", "project"]
    assert state() == before


def test_a_project_takes_its_share_of_what_others_leave() -> None:
    set_up()
    in_queue(d13=93, others=800)
    assert outcome(number=1)[0] == "accepted"  # 100 of the other 200
    assert outcome(number=2, body="x") == ["full", "project"]
    in_queue(d13=100, others=600)
    assert outcome(number=3)[0] == "accepted"


def test_project_with_an_empty_queue_has_room_beside_a_full_one() -> None:
    set_up()
    in_queue(others=500)
    assert outcome(number=1)[0] == "accepted"


def test_the_share_is_also_one_of_redis_memory() -> None:
    set_up(**{"queue:room": 100})
    in_queue(d13=43)
    assert outcome(number=1)[0] == "accepted"
    assert outcome(number=2) == ["full", "project"]


def test_the_bytes_of_thousands_of_datasets_are_summed_up() -> None:
    set_up()
    in_queue(**{f"d{n}": 1 for n in range(100, 9100)})
    assert outcome(number=1, total_bytes=20_000)[0] == "accepted"
    assert outcome(number=2, total_bytes=18_000) == ["full", "project"]


# -- Redis's memory -----------------------------------------------------------------------------------


def test_admission_stops_well_below_maxmemory() -> None:
    client = redis.client()
    set_up(bytes=1000)
    used = client.info("memory")["used_memory"]
    try:
        client.config_set("maxmemory", int(used * 1.15))
        assert admit(total_bytes=10**9)[::2] == ["full", "memory"], "above 80 %"
        client.delete("queue:room")
        client.config_set("maxmemory", 10 * used)
        assert admit(total_bytes=10**9)[0] == "accepted"
        room = int(client.get("queue:room"))
        # Half of what is free is left to bodies, for what an entry takes beside its body.
        assert 1000 + 0.8 * 3.4 * used < room < 1000 + 0.8 * 4.6 * used
        assert 0 < client.pttl("queue:room") <= 1000
    finally:
        client.config_set("maxmemory", 0)


def test_a_server_that_does_not_tell_its_memory_has_room() -> None:
    client = redis.client()
    client.acl_setuser("blind", enabled=True, nopass=True, commands=["+@all", "-info"], keys=["*"])
    set_up()
    try:
        blind: Any = Redis(unix_socket_path=urlsplit(settings.REDIS_URL).path, username="blind", password="any")
        args = [value for name, value in ARGS.items() if name not in OF_IDEMPOTENCY]
        reply = blind.eval(script("admit").source, len(KEYS), *KEYS.values(), *args)
    finally:
        client.acl_deluser("blind")
    assert reply[0] == b"accepted"
    assert client.get("queue:room") == b"%d" % 2**53


def test_without_maxmemory_there_is_always_room() -> None:
    set_up()
    assert admit()[0] == "accepted"
    assert redis.client().get("queue:room") == b"%d" % 2**53


# -- sent again ---------------------------------------------------------------------------------------


def test_repeat_gets_the_reply_that_was_lost() -> None:
    """It is not accepted twice, whatever has changed. The reply has the present quota."""
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


# -- no memory ----------------------------------------------------------------------------------------


def test_a_redis_without_memory_refuses_before_the_first_write() -> None:
    set_up()
    before = state()
    with redis_full(), pytest.raises(ResponseError, match="command not allowed when used memory"):
        admit(idempotency="new")
    assert state() == before


def test_acceptance_is_all_or_nothing_with_little_memory() -> None:
    """With some of these limits the memory runs out while the script is running."""
    client = redis.client()
    limits: dict[str, Any] = {"dataset_bytes": 10**9, "total_bytes": 10**9}
    outcomes = set()
    for spare in range(0, 4_000_000, 100_000):
        client.flushall()
        set_up(**{"queue:room": 10**9})  # seen when there was more memory
        before = state()
        client.config_set("maxmemory", client.info("memory")["used_memory"] + spare)
        try:
            outcomes.add(admit(body="x" * 1_000_000, idempotency="k", **limits)[0])
        except ResponseError:
            client.config_set("maxmemory", 0)
            outcomes.add("refused")
            assert state() == before
            continue
        client.config_set("maxmemory", 0)
        assert len(entries()) == 1
        assert client.mget("total", "delta", "bytes", "accepted") == [b"12", b"2", b"1000000", b"2"]
        assert client.exists("slot", "k", "pending", "turns", "last_used", "dirty", "slots") == 7
    assert outcomes == {"accepted", "refused"}
