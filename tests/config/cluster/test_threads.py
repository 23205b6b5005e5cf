"""The commands of threads in a cluster: each goes to the node that has its key, also while slots move or nodes end."""

import threading
from itertools import count as numbers
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from config.common import redis
from config.common.redis import Call, Script
from tests.support.servers.cluster import ValkeyCluster, use
from tests.support.servers.sentinels import wait_until


def keys(servers: ValkeyCluster, name: str) -> list[str]:
    """Return a key on each primary."""
    return [servers.key_on(node, name) for node in servers.primaries]


def slot(key: str) -> int:
    return int(key_slot(key.encode()))


def test_each_node_gets_the_commands_for_its_keys(servers: ValkeyCluster) -> None:
    names = keys(servers, "each")
    commands = [("SET", name, number) for number, name in enumerate(names)] + [("GET", name) for name in names]
    assert redis.each(commands) == [True, True, True, b"0", b"1", b"2"]
    assert [node.client().get(name) for node, name in zip(servers.primaries, names, strict=True)] == [b"0", b"1", b"2"]
    assert redis.client().get(names[1]) == b"1"
    with pytest.raises(ResponseError):
        redis.each([("GET", names[0]), ("LLEN", names[1])])
    assert redis.each([]) == []


def test_scripts_of_several_nodes_run_in_the_order_of_the_calls(servers: ValkeyCluster, count: Script) -> None:
    first, second, third = keys(servers, "scripts")
    servers.primaries[1].client().script_flush()
    count(keys=[first], args=[])
    count(keys=[third], args=[])
    calls = [Call(count, [name], []) for name in (third, second, first, second, third)]
    assert redis.run_all(calls) == [2, 1, 2, 2, 3]  # the second node did not know the script


def test_a_script_with_keys_of_two_slots_is_refused(servers: ValkeyCluster, count: Script) -> None:
    with pytest.raises(ResponseError, match="same slot"):
        count(keys=keys(servers, "refused")[:2], args=[])


def test_a_pipeline_runs_scripts_and_commands_of_one_slot(servers: ValkeyCluster, count: Script) -> None:
    name = servers.key_on(servers.primaries[2], "pipeline")
    count(keys=[name], args=[])
    for transaction in (False, True):
        with redis.pipeline(name, transaction=transaction) as step:
            step.set(name, 5)
            step.evalsha(count.digest, 1, name)
            step.hgetall(f"{name}:hash")
            assert step.execute() == [True, 6, {}]
            step.llen(name)
            step.get(name)
            error, reply = step.execute(raise_on_error=False)
            assert (type(error), reply) == (ResponseError, b"6")
        with redis.pipeline(name, transaction=transaction) as step:
            step.llen(name)
            with pytest.raises(ResponseError):
                step.execute()


def test_every_primary_can_be_asked(servers: ValkeyCluster) -> None:
    ports = {client.info("server")["tcp_port"] for client in redis.primaries()}
    assert ports == {node.port for node in servers.primaries}


def test_without_a_cluster_there_is_one_primary() -> None:
    assert redis.primaries() == [redis.client()]
    assert redis.each([("SET", "a", 1), ("GET", "a")]) == [True, b"1"]
    with redis.pipeline("a", transaction=True) as step:
        step.get("a")
        assert step.execute() == [b"1"]


@pytest.mark.parametrize("transaction", [False, True])
def test_commands_follow_a_slot_that_has_moved(servers: ValkeyCluster, count: Script, transaction: bool) -> None:
    here, there = servers.primaries[:2]
    name = servers.key_on(here, f"moved-{transaction}")
    count(keys=[name], args=[])
    servers.move_slot(slot(name), there)
    with redis.pipeline(name, transaction=transaction) as step:
        step.incr(name)
        step.incr(f"{name}:other")
        assert step.execute() == [2, 1]
    servers.move_slot(slot(name), here)
    assert redis.run_all([Call(count, [name], [])]) == [3]
    servers.move_slot(slot(name), there)
    assert redis.each([("GET", name)]) == [b"3"]
    servers.move_slot(slot(name), here)
    assert redis.client().get(name) == b"3"


def test_commands_reach_each_half_of_a_slot_that_moves(servers: ValkeyCluster, count: Script) -> None:
    here, there = servers.primaries[:2]
    name = servers.key_on(here, "half")
    gone, left = f"{name}:gone", f"{name}:left"
    redis.each([("SET", gone, 1), ("SET", left, 1)])
    servers.begin_move(slot(name), there)
    servers.move_keys(slot(name), here, there, gone)
    assert redis.each([("GET", gone), ("GET", left), ("GET", f"{name}:new")]) == [b"1", b"1", None]
    with redis.pipeline(name, transaction=True) as step:
        step.incr(gone)
        assert step.execute() == [2]
    with redis.pipeline(name, transaction=True) as step:
        step.incr(left)
        assert step.execute() == [2]
    with pytest.raises(RedisConnectionError):  # until the move ends, no node has both keys
        count(keys=[gone, left], args=[])
    with redis.pipeline(name, transaction=True) as step:
        step.incr(gone)
        step.incr(left)
        with pytest.raises(RedisConnectionError):
            step.execute()
    servers.move_slot(slot(name), there)
    assert count(keys=[gone, left], args=[]) == 6
    servers.move_slot(slot(name), here)


def test_scripts_continue_while_their_slot_moves_to_a_new_node(servers: ValkeyCluster, count: Script) -> None:
    here = servers.primaries[0]
    name = servers.key_on(here, "busy")
    redis.client().mset({f"{name}:{number}": "x" * 1000 for number in range(200)})
    there = servers.add_primary()
    ended, counted, failures = threading.Event(), numbers(1), []

    def work() -> None:
        while not ended.is_set():
            try:
                assert count(keys=[name, f"{name}:second"], args=[]) == 2 * next(counted)
            except BaseException as failure:
                failures.append(failure)
                raise

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for target in (there, here):
            servers.move_slot(slot(name), target)
    finally:
        ended.set()
        thread.join()
        servers.remove_primary(there)
    assert failures == []
    assert next(counted) > 2


def test_replicas_are_awaited_on_the_node_of_a_key(replicated: ValkeyCluster, settings: Any) -> None:
    settings.REDIS_WAIT_REPLICAS = 1
    here, other = replicated.primaries[:2]
    name, elsewhere = replicated.key_on(here), replicated.key_on(other)
    tag, tag_elsewhere = (int(each[1 : each.index("}")]) for each in (name, elsewhere))
    assert redis.require_replicas(tag=tag) == []
    replicated.replica_of(other).kill()
    with redis.pipeline(name, transaction=False) as step:
        step.get(name)
        assert redis.require_replicas(step, tag=tag) == [None]
    with pytest.raises(redis.TooFewReplicas):
        redis.require_replicas(tag=tag_elsewhere)


def test_commands_succeed_again_after_a_primary_was_killed(replicated: ValkeyCluster, count: Script) -> None:
    lost, kept = replicated.key_on(replicated.primaries[0]), replicated.key_on(replicated.primaries[1])
    count(keys=[lost], args=[])
    wait_until(lambda: replicated.replica_of(replicated.primaries[0]).client().dbsize(), "replication")
    replicated.primaries[0].kill()
    with pytest.raises(RedisError):
        redis.client().get(lost)
    assert count(keys=[kept], args=[]) == 1  # the other nodes go on
    wait_until(lambda: redis.each([("GET", lost), ("GET", kept)]) == [b"1", b"1"], "a new primary", seconds=20)
    with redis.pipeline(lost, transaction=True) as step:
        step.incr(lost)
        assert step.execute() == [2]
    assert redis.run_all([Call(count, [lost], []), Call(count, [kept], [])]) == [3, 2]
    assert len(redis.primaries()) == 3


def test_commands_follow_a_failover(replicated: ValkeyCluster, count: Script) -> None:
    name = replicated.key_on(replicated.primaries[0])
    assert count(keys=[name], args=[]) == 1
    replicated.failover(replicated.primaries[0])
    assert count(keys=[name], args=[]) == 2
    assert redis.each([("GET", name)]) == [b"2"]


def test_without_a_node_there_is_no_connection(settings: Any) -> None:
    use(settings, "redis+cluster://:s3cret@127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(RedisConnectionError) as failure:
        redis.client().get("key")
    assert "s3cret" not in str(failure.value)
