"""By default Celery uses the Redis of REDIS_URL, with the same password and the same checks of TLS."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from config.common.env import BASE_DIR
from tests.support.servers.plugin import RedisServer
from tests.support.servers.sentinels import PASSWORD, trio
from tests.support.servers.tls import TlsProxy
from tests.test_commands import environment

_PING = """
from config.celery import app
from config.common import redis
redis.client().ping()
print("the rest is verified")
app.send_task("ingest.dispatch", retry=False)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Redis with a password."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    server.client().config_set("requirepass", "s3cret")
    yield server
    server.stop()


def send(url: str) -> "subprocess.CompletedProcess[str]":
    """Send a trigger in a process that has only REDIS_URL."""
    here = environment(REDIS_URL=url, CELERY_BROKER_URL="")
    return subprocess.run([sys.executable, "-c", _PING], cwd=BASE_DIR, env=here, capture_output=True, text=True)


def sent(server: RedisServer, database: int) -> int:
    with Redis(unix_socket_path=str(server.socket), db=database, password="s3cret") as client:
        count = client.llen("dataset-ingest:ingest.drain")
    assert isinstance(count, int)
    return count


def test_celery_uses_the_unix_socket_of_redis(server: RedisServer) -> None:
    done = send(f"unix://:s3cret@{server.socket}?db=3")
    assert done.returncode == 0, done.stderr
    assert sent(server, 3) == 1


@pytest.fixture
def proxy(server: RedisServer, tmp_path: Path) -> Iterator[TlsProxy]:
    with TlsProxy(server.socket, tmp_path) as proxy:
        yield proxy


def test_celery_accepts_a_trusted_certificate(server: RedisServer, proxy: TlsProxy) -> None:
    done = send(proxy.url(2, password="s3cret"))
    assert done.returncode == 0, done.stderr
    assert sent(server, 2) == 1


_SEND_ALONE = "from config.celery import app; app.send_task('ingest.dispatch', retry=False)"


def test_celery_refuses_an_untrusted_certificate(server: RedisServer, proxy: TlsProxy) -> None:
    here = environment(CELERY_BROKER_URL=proxy.url(2, password="s3cret", trusted=False))
    done = subprocess.run([sys.executable, "-c", _SEND_ALONE], cwd=BASE_DIR, env=here, capture_output=True, text=True)
    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert sent(server, 2) == 0


def test_celery_finds_the_primary_through_sentinels(tmp_path: Path) -> None:
    with trio(tmp_path / "servers") as servers:
        done = send(servers.url(3))
        assert done.returncode == 0, done.stderr
        with Redis(port=servers.servers[0].port, db=3, password=PASSWORD) as client:
            assert client.llen("dataset-ingest:ingest.drain") == 1
