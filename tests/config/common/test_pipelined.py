"""`config.common.pipelined`: many commands over one connection. They are repeated until their timeout."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from config.common import loop, pipelined, redis
from config.common.links import server
from config.common.redis import RedisUnavailable
from tests.support.servers.outages import own_client, redis_away, redis_stuck, replies_lost


def execute(*command: redis.Argument, timeout: float = 1) -> Any:
    return loop.run(pipelined.execute(*command, timeout=timeout))


def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Return the results or exceptions of calls that are begun in the same turn of the event loop."""

    async def run() -> list[Any]:
        return await asyncio.gather(*calls, return_exceptions=True)

    return loop.run(run())


def test_each_command_gets_its_own_reply() -> None:
    assert execute("ECHO", b"\x00\xff") == b"\x00\xff"
    assert execute("EVAL", "return {1, 'a', false}", 0) == [1, b"a", None]
    numbers = [str(number).encode() for number in range(2000)]
    assert together(*(pipelined.execute("ECHO", number, timeout=30) for number in numbers)) == numbers


def test_commands_of_a_process_share_one_connection() -> None:
    assert len(set(together(*(pipelined.execute("CLIENT", "ID", timeout=30) for _ in range(50))))) == 1


def test_an_error_is_raised_for_its_own_command_and_the_connection_goes_on() -> None:
    before = execute("CLIENT", "ID")
    first, error, last = together(
        pipelined.execute("ECHO", "first", timeout=1),
        pipelined.execute("NONSENSE", timeout=1),
        pipelined.execute("ECHO", "last", timeout=1),
    )
    assert (first, last) == (b"first", b"last")
    assert isinstance(error, ResponseError)
    assert "unknown command" in str(error)
    assert execute("CLIENT", "ID") == before


def test_a_connection_that_was_closed_while_idle_is_opened_again() -> None:
    before = execute("CLIENT", "ID")
    own_client().client_kill_filter(_id=before)
    assert execute("CLIENT", "ID") != before


def test_a_script_that_redis_has_forgotten_is_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "script.lua"
    path.write_text("return {KEYS[1], ARGV[1]}")
    script = redis.Script(path)
    for _ in range(2):
        own_client().script_flush()
        assert loop.run(pipelined.run(script, ["key"], [7], timeout=1)) == [b"key", b"7"]
        own_client().script_flush()
        assert script(keys=["key"], args=[7]) == [b"key", b"7"]
        assert own_client().script_exists(script.digest) == [True]


def test_all_commands_in_flight_are_sent_again_when_their_connection_is_lost() -> None:
    """The reply to the first command is lost with the connection. The commands after it were also sent."""
    execute("PING")
    with replies_lost(b"ECHO") as lost:
        replies = together(*(pipelined.execute("ECHO", str(number), timeout=30) for number in range(100)))
    assert len(lost) == 1
    assert replies == [str(number).encode() for number in range(100)]


def test_without_a_connection_nothing_was_sent() -> None:
    def attempt() -> tuple[bool, float]:
        began = time.monotonic()
        with pytest.raises(RedisUnavailable) as failure:
            execute("SET", "a", "1", timeout=0.3)
        return failure.value.sent, time.monotonic() - began

    execute("PING")
    with redis_away():
        attempt()  # loses the open connection
        (sent, seconds), _ = [attempt() for _ in range(2)]
    assert not sent
    assert seconds < 0.2  # the process already knows of the outage
    assert execute("GET", "a") is None


def test_a_short_outage_is_hidden_and_a_long_one_is_reported_in_time() -> None:
    execute("PING")
    with redis_away():
        began = time.monotonic()
        outcomes = together(*(pipelined.execute("PING", timeout=0.5) for _ in range(100)))
        assert time.monotonic() - began < 5
    assert {type(outcome) for outcome in outcomes} == {RedisUnavailable}
    assert together(*(pipelined.execute("PING", timeout=1) for _ in range(100))) == [b"PONG"] * 100


def test_a_stuck_redis_may_have_received_the_command() -> None:
    assert execute("PING") == b"PONG"
    with redis_stuck():
        began = time.monotonic()
        with pytest.raises(RedisUnavailable) as failure:
            execute("INCR", "a", timeout=0.3)
        assert 0.9 < time.monotonic() - began < 5
        assert failure.value.sent
    assert execute("PING") == b"PONG"
    assert execute("GET", "a") == b"1"  # INCR was sent once, and not again over a new connection


def test_a_former_primary_has_executed_nothing() -> None:
    own_client().execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(RedisUnavailable) as failure:
            execute("SET", "a", "1", timeout=0.3)
    finally:
        own_client().execute_command("REPLICAOF", "NO", "ONE")
    assert not failure.value.sent


def test_a_large_command_to_a_stuck_redis_ends_at_its_timeout() -> None:
    for _ in range(server.FOR_LARGE):  # open each connection that may get the large command
        execute("SET", "a", b"x" * 10_000)
    with redis_stuck():
        began = time.monotonic()
        with pytest.raises(RedisUnavailable):
            execute("SET", "a", b"x" * 10_000_000, timeout=0.3)
        assert 0.9 < time.monotonic() - began < 5
    assert execute("PING") == b"PONG"


def test_a_reply_of_a_canceled_command_is_not_the_reply_to_the_next_one() -> None:
    async def give_up() -> bytes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await pipelined.execute("BLPOP", "nothing", 0, timeout=5)
        own_client().rpush("nothing", "late")
        reply: bytes = await pipelined.execute("ECHO", "mine", timeout=1)
        return reply

    assert loop.run(give_up()) == b"mine"


def test_a_reconnection_to_a_stuck_redis_takes_no_longer_than_the_command_may() -> None:
    assert execute("PING") == b"PONG"
    with redis_stuck():
        began = time.monotonic()
        with pytest.raises(RedisUnavailable):
            execute("SET", "a", "1", timeout=1.5)  # one second without a reply, and then a new connection
        assert time.monotonic() - began < 2.0
    assert execute("PING") == b"PONG"
