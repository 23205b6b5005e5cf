"""Redis behind real sentinels: clients find the primary, and find the next one after a failover."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.connection import SSLConnection
from redis.exceptions import RedisError

from config.common import loop, pipelined, redis
from config.common.redis import RedisUnavailable, Script
from config.common.sentinel.pool import SentinelConnectionFactory
from tests.support.servers.plugin import RedisServer
from tests.support.servers.sentinels import Trio, forget_connections, trio, use, wait_until

FACTORY = f"{SentinelConnectionFactory.__module__}.{SentinelConnectionFactory.__qualname__}"


@pytest.fixture(autouse=True)
def no_connections() -> Iterator[None]:
    """Close all connections before and after each test."""
    forget_connections()
    yield
    forget_connections()


@pytest.fixture
def servers(tmp_path: Path, settings: Any) -> Iterator[Trio]:
    """Start servers with sentinels, and use them as the service's Redis."""
    with trio(tmp_path / "servers") as found:
        use(settings, found.url(3), CONNECTION_FACTORY=FACTORY)
        yield found


def test_clients_follow_a_failover(servers: Trio, tmp_path: Path) -> None:
    path = tmp_path / "count.lua"
    path.write_text("return redis.call('INCR', KEYS[1])")
    script = Script(path)
    assert redis.client().set("key", "before")
    assert loop.run(pipelined.execute("GET", "key", timeout=1)) == b"before"
    assert loop.run(pipelined.run(script, ["count"], [], timeout=1)) == 1
    servers.sentinels[0].send_signal(signal.SIGSTOP)  # it accepts connections, but does not answer
    try:
        old = servers.servers[0]
        wait_until(lambda: servers.servers[1].client().info("keyspace")["db3"]["keys"] == 2, "replication")
        old.kill()
        # This command waits until the sentinels have named another primary, and then runs there.
        assert loop.run(pipelined.run(script, ["count"], [], timeout=30)) == 2
        assert redis.client().get("key") == b"before"
        assert script(keys=["count"], args=[]) == 3
        old.start()
        wait_until(lambda: old.client().info("replication")["role"] == "slave", "the old primary as a replica")
        assert loop.run(pipelined.run(script, ["count"], [], timeout=1)) == 4
    finally:
        servers.sentinels[0].send_signal(signal.SIGCONT)


def test_script_that_a_replica_refuses_is_sent_to_the_next_primary(tmp_path: Path, settings: Any) -> None:
    server = RedisServer(tmp_path / "redis")  # Redis 6
    server.start("--replicaof", "127.0.0.1", "1")
    use(settings, server.url)
    path = tmp_path / "count.lua"
    path.write_text("return redis.call('INCR', KEYS[1])")
    try:
        with pytest.raises(RedisUnavailable) as failure:
            loop.run(pipelined.run(Script(path), ["count"], [], timeout=0.3))
        assert not failure.value.sent
        server.client().replicaof("NO", "ONE")
        assert loop.run(pipelined.run(Script(path), ["count"], [], timeout=5)) == 1
    finally:
        server.stop()


def test_without_sentinels_redis_is_unavailable(settings: Any) -> None:
    use(settings, "redis+sentinel://127.0.0.1:1,127.0.0.1:2/service", CONNECTION_FACTORY=FACTORY)
    with pytest.raises(RedisUnavailable) as failure:
        loop.run(pipelined.execute("GET", "key", timeout=0.3))
    assert not failure.value.sent
    with pytest.raises(RedisError):
        redis.client().get("key")


def test_tls_is_used_for_redis_and_for_the_sentinels(settings: Any) -> None:
    use(settings, "rediss+sentinel://127.0.0.1:1/service?ssl_ca_certs=/ca.pem", CONNECTION_FACTORY=FACTORY)
    pool = redis.client().connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
    assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    (sentinel,) = pool.sentinel_manager.sentinels
    assert sentinel.connection_pool.connection_class is SSLConnection
    assert sentinel.connection_pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
