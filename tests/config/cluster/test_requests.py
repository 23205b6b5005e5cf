"""The commands of the request path in a cluster: they wait for a node that can run them, until their timeout."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from redis.exceptions import ResponseError

from config.common import loop, pipelined, redis
from config.common.links.nodes import slot_of
from config.common.pipelined import SharedKeys
from config.common.redis import RedisUnavailable, Script
from tests.support.servers.cluster import Node, ValkeyCluster, use
from tests.support.servers.sentinels import forget_connections, wait_until


def execute(*command: redis.Argument, timeout: float = 3, **options: Any) -> Any:
    return loop.run(pipelined.execute(*command, timeout=timeout, **options))


def run(script: Script, *keys: str, timeout: float = 3, **options: Any) -> Any:
    return loop.run(pipelined.run(script, keys, [], timeout=timeout, **options))


def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Return the results of calls that are begun in the same turn of the event loop."""

    async def gather() -> list[Any]:
        return await asyncio.gather(*calls)

    return loop.run(gather())


def test_each_node_gets_the_commands_for_its_keys(servers: ValkeyCluster) -> None:
    names = [servers.key_on(node, "async") for node in servers.primaries]
    large = b"x" * 10_000
    sets = [pipelined.execute("SET", name, large, timeout=3) for name in names]
    gets = [pipelined.execute("GET", name, timeout=3) for name in names]
    assert together(*sets) == [b"OK"] * 3
    assert together(*gets) == [large] * 3
    for node, name in zip(servers.primaries, names, strict=True):
        assert node.client().exists(name)
        assert execute("CONFIG", "GET", "port", key=name)[1] == str(node.port).encode()
    with pytest.raises(ResponseError):
        execute("LLEN", names[0])


def test_a_script_goes_to_the_node_of_its_first_key(servers: ValkeyCluster, count: Script) -> None:
    first, second = (servers.key_on(node, "first") for node in servers.primaries[:2])
    servers.primaries[0].client().script_flush()
    assert run(count, first, f"{first}:other") == 2
    assert run(count, f"{second}:other", shared=SharedKeys(second)) == 2
    servers.primaries[1].client().script_flush()
    assert run(count, f"{second}:other", shared=SharedKeys(second)) == 4
    with pytest.raises(ResponseError, match="same slot"):
        run(count, first, second)


def test_commands_follow_a_slot_that_has_moved(servers: ValkeyCluster, count: Script) -> None:
    here, there = servers.primaries[:2]
    name = servers.key_on(here, "moves")
    for expected, target in enumerate((there, here, there, here), 1):
        assert run(count, name) == expected
        servers.move_slot(slot_of(name), target)
        assert execute("GET", name) == str(expected).encode()


def test_commands_reach_each_half_of_a_slot_that_moves(servers: ValkeyCluster, count: Script) -> None:
    here, there = servers.primaries[:2]
    name = servers.key_on(here, "halves")
    gone, left = f"{name}:gone", f"{name}:left"
    execute("MSET", gone, 1, left, 1)
    there.client().script_flush()
    servers.begin_move(slot_of(name), there)
    servers.move_keys(slot_of(name), here, there, gone)
    commands = [("GET", gone), ("GET", left), ("INCR", gone), ("GET", f"{name}:new"), ("INCR", left)]
    assert together(*(pipelined.execute(*each, timeout=3) for each in commands)) == [b"1", b"1", 2, None, 2]
    assert run(count, gone) == 3  # the node that imports the slot does not know the script
    with pytest.raises(RedisUnavailable) as failure:  # until the move ends, no node has both keys
        run(count, gone, left, timeout=0.3)
    assert not failure.value.sent

    async def end() -> Any:
        waiting = asyncio.create_task(pipelined.run(count, [gone, left], [], timeout=10))
        await asyncio.to_thread(servers.move_slot, slot_of(name), there)
        return await waiting

    assert loop.run(end()) == 7
    assert run(count, gone, left) == 9
    servers.move_slot(slot_of(name), here)


async def _busy(script: Script, keys: list[str], until: "asyncio.Future[None]") -> int:
    number = 0
    while not until.done():
        number += 1
        assert await pipelined.run(script, keys, [], timeout=3) == number * len(keys)
    return number


def test_scripts_continue_while_their_slot_moves_to_a_new_node(servers: ValkeyCluster, count: Script) -> None:
    here = servers.primaries[0]
    names = [servers.key_on(node, "working") for node in servers.primaries]
    redis.client().mset({f"{names[0]}:{number}": "x" * 1000 for number in range(200)})
    there = servers.add_primary()

    async def work() -> list[int]:
        ended = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(_busy(count, [name, f"{name}:second"], ended)) for name in names]
        for target in (there, here):
            await asyncio.to_thread(servers.move_slot, slot_of(names[0]), target)
        ended.set_result(None)
        return await asyncio.gather(*tasks)

    try:
        assert min(loop.run(work())) > 2
    finally:
        servers.remove_primary(there)


def test_a_reply_comes_with_the_number_of_replicas(replicated: ValkeyCluster, count: Script, settings: Any) -> None:
    settings.REDIS_WAIT_REPLICAS = 1
    here, there = replicated.primaries[:2]
    name = replicated.key_on(here)
    assert run(count, name, replicated=True) == (1, 1)
    replicated.begin_move(slot_of(name), there)
    replicated.move_keys(slot_of(name), here, there)
    assert run(count, name, replicated=True) == (2, 1)
    replicated.end_move(slot_of(name), there)
    assert run(count, name, replicated=True) == (3, 1)
    replicated.replica_of(there).kill()
    assert run(count, name, replicated=True) == (4, 0)


def test_a_planned_failover_is_not_noticed(replicated: ValkeyCluster, count: Script) -> None:
    name = replicated.key_on(replicated.primaries[0])

    async def work() -> int:
        ended = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(_busy(count, [name], ended))
        await asyncio.to_thread(replicated.failover, replicated.primaries[0])
        ended.set_result(None)
        return await task

    counted = loop.run(work())
    assert run(count, name) == counted + 1
    assert execute("CONFIG", "GET", "port", key=name)[1] != str(replicated.primaries[0].port).encode()


def replicate(servers: ValkeyCluster, primary: Node) -> None:
    client = servers.replica_of(primary).client()
    wait_until(lambda: client.dbsize() == primary.client().dbsize(), "replication")


def test_commands_wait_for_the_next_primary_after_a_kill(replicated: ValkeyCluster, count: Script) -> None:
    lost, kept = replicated.primaries[:2]
    name, other = replicated.key_on(lost), replicated.key_on(kept)
    assert run(count, name) == 1
    replicate(replicated, lost)
    lost.kill()
    for _ in range(2):  # the first attempt may still find the open connection
        with pytest.raises(RedisUnavailable) as failure:
            execute("GET", name, timeout=0.3)
    assert not failure.value.sent
    assert run(count, other, timeout=0.3) == 1  # the other nodes continue
    assert run(count, name, timeout=20) == 2
    assert execute("GET", name) == b"2"


def test_commands_leave_a_primary_that_is_frozen(replicated: ValkeyCluster, count: Script) -> None:
    frozen, kept = replicated.primaries[:2]
    name, other = replicated.key_on(frozen), replicated.key_on(kept)
    assert run(count, name) == 1
    replicate(replicated, frozen)
    with frozen.frozen():
        with pytest.raises(RedisUnavailable) as failure:
            execute("INCR", name, timeout=0.3)
        assert failure.value.sent
        assert run(count, other, timeout=0.3) == 1
        wait_until(lambda: replicated.owner(slot_of(name), asked=kept) is not frozen, "a failover")
        assert execute("GET", name, timeout=5) == b"1"
    # The command that the frozen node got is lost with the node's old data: the node becomes a replica.
    wait_until(lambda: frozen.client().info("replication")["role"] == "slave", "a replica")
    assert run(count, name) == 2


def test_without_a_node_redis_is_unavailable(settings: Any) -> None:
    use(settings, "redis+cluster://:s3cret@127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(RedisUnavailable) as failure:
        execute("GET", "key", timeout=0.3)
    assert not failure.value.sent
    forget_connections()


def test_a_node_of_another_password_is_unavailable(servers: ValkeyCluster, settings: Any) -> None:
    use(settings, f"redis+cluster://:wrong@127.0.0.1:{servers.primaries[0].port}")
    with pytest.raises(RedisUnavailable) as failure:
        execute("GET", "key", timeout=0.3)
    assert not failure.value.sent
    assert "wrong" not in repr(failure.value.__cause__)
