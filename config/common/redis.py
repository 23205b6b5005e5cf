"""Redis, as the whole service uses it: django-redis's client, and a connection per thread for the request path.

Redis Cluster is not supported: one script must see quota, queue and revision together, and the quota's key names are
fixed by the contract without a hash tag. One primary, plain or behind Sentinel, is what CACHES may name.
"""

import hashlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from hiredis import pack_command
from redis.exceptions import BusyLoadingError, NoScriptError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# Between two attempts to reach a Redis that is away: short against a restart, long against a busy loop.
_PAUSE_SECONDS = 0.05
_UNREACHABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)

Argument = str | bytes | int | float
_pack: Any = pack_command  # its annotation asks for a tuple of one


class RedisUnavailable(Exception):
    """Redis gave no answer in time.

    `sent` tells whether the command may have reached it: False means that certainly nothing happened.
    """

    def __init__(self, *, sent: bool) -> None:
        super().__init__("no answer from Redis")
        self.sent = sent


def client() -> Any:
    """django-redis's client (a `redis.Redis`) of the default cache: pooled, one attempt a command.

    Typed as Any: redis-py's annotations describe its synchronous and asynchronous clients at once.
    """
    return get_redis_connection("default")


class Script:
    """A Lua script, called by its digest. Redis gets the source only if it does not know the digest yet."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        self.digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, *, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """Run the script with one attempt, over a connection of `client`'s pool."""
        try:
            return client().evalsha(self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return client().eval(self.source, len(keys), *keys, *args)

    def execute(self, keys: Sequence[Argument], args: Sequence[Argument], *, timeout: float) -> Any:
        """Run the script on the request path: see the function `execute`. One round trip."""
        try:
            return execute("EVALSHA", self.digest, len(keys), *keys, *args, timeout=timeout)
        except NoScriptError:
            return execute("EVAL", self.source, len(keys), *keys, *args, timeout=timeout)


def scripts_in(folder: Path) -> Callable[[str], Script]:
    """Return a function that returns the script `<folder>/<name>.lua` for a name, and reads it once."""
    return cache(lambda name: Script(folder / f"{name}.lua"))


class _Thread(threading.local):
    connection: Any = None


_thread = _Thread()


class _Outage:
    """Since when this process has had no answer: in a long outage requests are refused at once, not after a wait."""

    since: float | None = None


def execute(*command: Argument, timeout: float) -> Any:
    """Send one command that is safe to repeat, and return its reply.

    It is repeated over a new connection for as long as `timeout` (seconds) allows, counted from the beginning of the
    outage, so that a restart of Redis passes unnoticed and a long outage does not make every request wait.

    Raises RedisUnavailable, or redis-py's ResponseError where Redis refuses the command.
    """
    packed: bytes = _pack(command)
    sent = False
    deadline = time.monotonic() + timeout
    while True:
        connection = _connection()
        reused = connection.is_connected
        try:
            if not reused:
                connection.connect()
                _leave_timeout_to_kernel(connection)
            connection.send_packed_command([packed], check_health=False)
            sent = True
            reply = connection.read_response()
        except _UNREACHABLE as failure:
            connection.disconnect()
            if reused and not _is_timeout(failure):
                continue  # closed while it was idle, perhaps: that says nothing of Redis now
            moment = time.monotonic()
            if _Outage.since is None:
                _Outage.since = moment
            if min(deadline, _Outage.since + timeout) <= moment + _PAUSE_SECONDS:
                raise RedisUnavailable(sent=sent) from failure
            time.sleep(_PAUSE_SECONDS)
        except RedisError:
            raise
        except BaseException:
            # The reply is still to come on this connection: nobody may read it as his own.
            connection.disconnect()
            raise
        else:
            _Outage.since = None
            return reply


def _leave_timeout_to_kernel(connection: Any) -> None:
    """Have the kernel end a send or a receive that takes too long, with EAGAIN.

    Python's own time limit polls the socket before each: twice as many system calls, and twice as often another thread
    gets the interpreter. TLS, which reads again after an EAGAIN, keeps it.
    """
    stream: socket.socket = connection._sock
    if isinstance(stream, ssl.SSLSocket):
        return
    seconds, part = divmod(settings.REDIS_TIMEOUT_SECONDS, 1)
    timeval = struct.pack("ll", int(seconds), int(part * 1_000_000))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
    stream.settimeout(None)


def _is_timeout(failure: Exception) -> bool:
    """Redis-py takes the kernel's for a broken connection."""
    return isinstance(failure, RedisTimeoutError) or isinstance(failure.__context__, BlockingIOError)


def _connection() -> Any:
    """This thread's connection, made with the pool's settings (plain, socket or Sentinel); open, or not yet.

    Not made by the pool: that counts what it makes and never hears of a thread's end, so that a server whose threads
    come and go, as granian's do, would be refused in the end.
    """
    if _thread.connection is None:
        pool = client().connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.socket_timeout = settings.REDIS_TIMEOUT_SECONDS
        _thread.connection = connection
    return _thread.connection
