"""The limits of `admit.lua`: the keys of a project, its share of the queue, and Redis's memory."""

import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from redis import Redis
from redis.exceptions import ResponseError

from config.common import redis
from ingest.queue.scripts import script
from tests.ingest.queue.admitting import ARGS, KEYS, admit, entries, set_up, state
from tests.support.servers.outages import redis_full

# -- the keys of a project ----------------------------------------------------------------------------


def known_keys() -> dict[int, int]:
    """Return how many keys expire at each time, in seconds since the epoch."""
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
    assert admit(idempotency="k3", number=4)[0] == "repeated", "a key that is known"
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
    """Set the queued bytes: `d<id>` for datasets of the project, and `others` for all other projects."""
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
    assert outcome(number=1)[0] == "accepted"  # 100 of the 200 that others leave
    assert outcome(number=2, body="x") == ["full", "project"]
    in_queue(d13=100, others=600)
    assert outcome(number=3)[0] == "accepted"


def test_project_with_an_empty_queue_has_room_beside_a_full_one() -> None:
    set_up()
    in_queue(others=500)
    assert outcome(number=1)[0] == "accepted"


def test_the_share_also_applies_to_redis_memory() -> None:
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
        # Only half of the free memory is for bodies, because an entry takes more memory than its body.
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
        reply = blind.eval(script("admit").source, len(KEYS), *KEYS.values(), *ARGS.values())
    finally:
        client.acl_deluser("blind")
    assert reply[0] == b"accepted"
    assert client.get("queue:room") == b"%d" % 2**53


def test_without_maxmemory_there_is_always_room() -> None:
    set_up()
    assert admit()[0] == "accepted"
    assert redis.client().get("queue:room") == b"%d" % 2**53


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
        set_up(**{"queue:room": 10**9})  # as if admit.lua had looked when there was more memory
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
