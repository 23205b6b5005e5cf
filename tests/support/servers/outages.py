"""Make servers unreachable for some time, and look at their content and at the commands that they get."""

import asyncio
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.conf import settings
from django.db import connection
from redis import Redis

from config.common import loop
from ingest.queue import redis_keys


def own_client() -> Any:
    """Return a client of the test Redis with its own connections."""
    return Redis(unix_socket_path=str(_socket()))


def _socket() -> Path:
    return Path(urlsplit(settings.REDIS_URL).path)


def _hidden() -> Path:
    return _socket().with_suffix(".away")


@contextmanager
def redis_away() -> Iterator[Any]:
    """Make Redis refuse connections, like a server that is down. Yield a client that stays connected."""
    client = own_client()
    client.ping()
    _socket().rename(_hidden())
    try:
        client.client_kill_filter(_type="normal", skipme=True)
        loop.run(asyncio.sleep(0.05))  # the loop sees that its connections are closed, before it sends anything
        yield client
    finally:
        _hidden().rename(_socket())


@contextmanager
def redis_stuck() -> Iterator[None]:
    """Make Redis accept commands, but not answer."""
    process_id = own_client().info("server")["process_id"]
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


@contextmanager
def writes_stuck() -> Iterator[Any]:
    """Make Redis answer reads, and let writes wait."""
    client = own_client()
    client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    try:
        yield client
    finally:
        client.execute_command("CLIENT", "UNPAUSE")


@contextmanager
def replies_lost(command: bytes) -> Iterator[list[bytes]]:
    """Let Redis execute the first request that contains `command`, and break the connection before the reply arrives.

    Yield the lost replies.
    """
    lost: list[bytes] = []
    with redis_away(), socketserver.ThreadingUnixStreamServer(str(_socket()), _Proxy) as server:
        server.daemon_threads = True
        _Proxy.command, _Proxy.lost, _Proxy.behind = command, lost, str(_hidden())
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield lost
        finally:
            server.shutdown()
            _socket().unlink()


class _Proxy(socketserver.BaseRequestHandler):
    """A proxy between a client and Redis, for one connection."""

    command: bytes
    lost: list[bytes]
    behind: str

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as redis:
            redis.connect(self.behind)
            while asked := self.request.recv(1024 * 1024):
                redis.sendall(asked)
                reply = redis.recv(1024 * 1024)
                if self.command in asked and not self.lost:
                    self.lost.append(reply)
                    return
                self.request.sendall(reply)


@contextmanager
def redis_full() -> Iterator[Any]:
    """Leave Redis no memory for another write."""
    client = own_client()
    client.config_set("maxmemory", 1)
    try:
        yield client
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def database_away() -> Iterator[None]:
    """Make PostgreSQL close every connection to the test database, and accept no new one."""
    name = connection.settings_dict["NAME"]
    address = {**connection.get_connection_params(), "dbname": "postgres"}
    with psycopg.connect(**address, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            connection.close()


def everything_in(client: Any) -> dict[bytes, bytes]:
    """Return every key of Redis with its serialized value.

    Leave out the counts and logs of refusals, and the key that says how much room Redis's memory has.
    """
    passing = (redis_keys.REFUSED.encode(), b"stats:refused:", b"refusals:", redis_keys.ROOM.encode())
    return {key: client.dump(key) for key in client.scan_iter(count=1000) if not key.startswith(passing)}


@contextmanager
def commands_sent() -> Iterator[list[str]]:
    """Yield a list that gets the names of commands from other clients. Commands inside a script do not count."""
    seen: list[str] = []
    client, another = own_client(), own_client()
    another.ping()  # connect it before the monitor starts
    with client.monitor() as monitor:
        yield seen
        another.echo("enough")
        while (entry := monitor.next_command())["command"] != "ECHO enough":
            if entry["client_type"] != "lua":
                seen.append(entry["command"].split()[0].upper())
