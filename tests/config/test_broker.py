"""By default Celery uses the Redis of REDIS_URL, with the same password and the same checks of TLS."""

import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from redis import Redis

from config.common.env import BASE_DIR
from tests.support.servers.plugin import RedisServer
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
def certificate(tmp_path: Path) -> Path:
    """Return a self-signed certificate of this machine, in one file with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, found = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", *options, *names, "-keyout", str(key), "-out", str(found)]
    subprocess.run(command, check=True, capture_output=True)
    return found


@pytest.fixture
def tls_port(server: RedisServer, certificate: Path) -> Iterator[int]:
    """Return a port with TLS, which forwards to the Redis."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=_accept, args=(listener, context, server.socket), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, context: ssl.SSLContext, path: Path) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=_pass_on, args=(plain, context, path), daemon=True).start()


def _pass_on(plain: socket.socket, context: ssl.SSLContext, path: Path) -> None:
    """Forward one request and its reply at a time, as clients of Redis send them."""
    with (
        suppress(OSError),
        context.wrap_socket(plain, server_side=True) as client,
        socket.socket(socket.AF_UNIX) as redis,
    ):
        redis.connect(str(path))
        client.settimeout(0.01)
        redis.settimeout(0.01)
        while True:
            for source, target in ((client, redis), (redis, client)):
                with suppress(TimeoutError):
                    received = source.recv(65536)
                    if not received:
                        return
                    target.sendall(received)


def test_celery_accepts_a_trusted_certificate(server: RedisServer, certificate: Path, tls_port: int) -> None:
    url = f"rediss://:s3cret@localhost:{tls_port}/2?ssl_ca_certs={certificate}"
    done = send(url)
    assert done.returncode == 0, done.stderr
    assert sent(server, 2) == 1


_SEND_ALONE = "from config.celery import app; app.send_task('ingest.dispatch', retry=False)"


def test_celery_refuses_an_untrusted_certificate(server: RedisServer, tls_port: int) -> None:
    here = environment(CELERY_BROKER_URL=f"rediss://:s3cret@localhost:{tls_port}/2")
    done = subprocess.run([sys.executable, "-c", _SEND_ALONE], cwd=BASE_DIR, env=here, capture_output=True, text=True)
    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert sent(server, 2) == 0
