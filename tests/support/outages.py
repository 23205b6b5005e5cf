"""Servers that cannot be reached for a while, and what they hold and are asked meanwhile."""

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

from ingest.queue import redis_keys


def own_client() -> Any:
    """A client of the tests' Redis that shares nothing with the service's connections."""
    return Redis(unix_socket_path=str(_socket()))


def _socket() -> Path:
    return Path(urlsplit(settings.REDIS_URL).path)


def _hidden() -> Path:
    return _socket().with_suffix(".away")


@contextmanager
def redis_away() -> Iterator[Any]:
    """Redis refuses connections, as a server that is down; yields a client that is connected to it all the same."""
    client = own_client()
    client.ping()
    _socket().rename(_hidden())
    try:
        client.client_kill_filter(_type="normal", skipme=True)
        yield client
    finally:
        _hidden().rename(_socket())


@contextmanager
def redis_stuck() -> Iterator[None]:
    """Redis takes commands and gives no answer."""
    process_id = own_client().info("server")["process_id"]
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


@contextmanager
def writes_stuck() -> Iterator[Any]:
    """Redis answers who reads, and lets who writes wait."""
    client = own_client()
    client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    try:
        yield client
    finally:
        client.execute_command("CLIENT", "UNPAUSE")


@contextmanager
def replies_lost(command: bytes) -> Iterator[list[bytes]]:
    """The first of such commands reaches Redis and is carried out, and the connection breaks before its reply arrives.

    Yields what was lost.
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
    """Between a client and Redis, for one connection."""

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
    """Redis has no memory left for another write."""
    client = own_client()
    client.config_set("maxmemory", 1)
    try:
        yield client
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def database_away() -> Iterator[None]:
    """PostgreSQL closes every connection to the tests' database, and takes no new one."""
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
    """Every key of Redis with its value, serialized.

    Except counts and logs of refusals, and the room that was seen in Redis's memory.
    """
    passing = (redis_keys.REFUSED.encode(), b"stats:refused:", b"refusals:", redis_keys.ROOM.encode())
    return {key: client.dump(key) for key in client.scan_iter(count=1000) if not key.startswith(passing)}


@contextmanager
def commands_sent() -> Iterator[list[str]]:
    """Names of the commands that Redis is sent meanwhile by anyone else; those inside a script are not sent."""
    seen: list[str] = []
    client, another = own_client(), own_client()
    another.ping()  # so that it is connected
    with client.monitor() as monitor:
        yield seen
        another.echo("enough")
        while (entry := monitor.next_command())["command"] != "ECHO enough":
            if entry["client_type"] != "lua":
                seen.append(entry["command"].split()[0].upper())
