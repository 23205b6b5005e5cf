"""`config.common.redis.execute` sends one command over the thread's connection, within a time limit."""

import json
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest
from django.core.cache import cache
from redis.exceptions import ResponseError

from config.common import redis
from tests.support.servers.outages import own_client, redis_away, redis_stuck


def test_commands_return_their_replies() -> None:
    assert redis.execute("ECHO", b"\x00\xff", timeout=1) == b"\x00\xff"
    assert redis.execute("EVAL", "return {1, 'a', false}", 0, timeout=1) == [1, b"a", None]


def test_an_error_of_redis_keeps_the_connection_usable() -> None:
    before = redis.execute("CLIENT", "ID", timeout=1)
    with pytest.raises(ResponseError, match="unknown command"):
        redis.execute("NONSENSE", timeout=1)
    assert redis.execute("CLIENT", "ID", timeout=1) == before


def test_a_connection_closed_while_idle_is_reopened() -> None:
    before = redis.execute("CLIENT", "ID", timeout=1)
    own_client().client_kill_filter(_id=before)
    assert redis.execute("CLIENT", "ID", timeout=1) != before


def test_a_script_unknown_to_redis_is_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "script.lua"
    path.write_text("return {KEYS[1], ARGV[1]}")
    script = redis.Script(path)
    for _ in range(2):
        own_client().script_flush()
        assert script.execute(["key"], [7], timeout=1) == [b"key", b"7"]
        own_client().script_flush()
        assert script(keys=["key"], args=[7]) == [b"key", b"7"]
        assert own_client().script_exists(script.digest) == [True]
        assert redis.execute("EVALSHA", script.digest, 1, "key", "again", timeout=1) == [b"key", b"again"]


def test_without_a_connection_nothing_was_sent() -> None:
    def attempt() -> tuple[bool, float]:
        began = time.monotonic()
        with pytest.raises(redis.RedisUnavailable) as failure:
            redis.execute("SET", "a", "1", timeout=0.3)
        return failure.value.sent, time.monotonic() - began

    with redis_away(), ThreadPoolExecutor(1) as another_thread:
        (sent, seconds), (_, seconds_later) = [another_thread.submit(attempt).result(30) for _ in range(2)]
    assert not sent
    assert seconds > 0.2
    assert seconds_later < 0.2  # the outage was noticed before
    assert redis.execute("GET", "a", timeout=1) is None


def test_a_command_to_a_stuck_redis_may_have_been_sent() -> None:
    assert redis.execute("PING", timeout=1) == b"PONG"
    with redis_stuck():
        began = time.monotonic()
        with pytest.raises(redis.RedisUnavailable) as failure:
            redis.execute("INCR", "a", timeout=0.3)
        assert 0.9 < time.monotonic() - began < 5
        assert failure.value.sent
    assert redis.execute("PING", timeout=1) == b"PONG"
    assert redis.execute("GET", "a", timeout=1) == b"1"  # it was sent only once


def test_a_stuck_redis_costs_no_more_than_the_time_limit() -> None:
    assert redis.execute("PING", timeout=1) == b"PONG"
    with redis_stuck():
        began = time.monotonic()
        with pytest.raises(redis.RedisUnavailable):
            redis.execute("SET", "a", b"x" * 10_000_000, timeout=0.3)
        assert 0.9 < time.monotonic() - began < 5
    assert redis.execute("PING", timeout=1) == b"PONG"


class Interrupted(BaseException):
    pass


def test_a_late_reply_is_not_read_by_the_next_command() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Interrupted):
            redis.execute("BLPOP", "nothing", 0, timeout=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    own_client().rpush("nothing", "late")
    assert redis.execute("ECHO", "mine", timeout=1) == b"mine"


def test_djangos_cache_runs_no_code_from_redis(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "run",)  # type: ignore[return-value]

    cache.set("kept", {"a": [1, "é"]})
    assert cache.get("kept") == {"a": [1, "é"]}
    assert json.loads(own_client().get(cache.make_key("kept"))) == {"a": [1, "é"]}
    own_client().set(cache.make_key("planted"), pickle.dumps(Touch()))
    with pytest.raises(ValueError, match=r"Expecting value|codec"):
        cache.get("planted")
    assert not (tmp_path / "run").exists()
