"""Redis on the request path: one connection per process for small commands, and a few more for large ones.

Commands that become ready in the same turn of the event loop are sent with one write. Redis answers in order, so the
first future that waits gets the first reply. No command waits for the reply to another one.

To support a cluster later, `execute` is the place that would follow MOVED and ASK, with one `_Link` per node.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import Any

import hiredis
import redis
from django.conf import settings
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import SentinelConnectionPool

from config.common.loop import shared
from config.common.redis import Argument, RedisUnavailable, Script, client, wait_command
from config.common.threads import FINDING

# The pause between two attempts to reach Redis, while it does not answer.
_PAUSE_SECONDS = 0.05
# How often within REDIS_TIMEOUT_SECONDS we look whether Redis still answers.
_WATCHES = 4
_UNREACHABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)
# Answers of a Redis that has certainly not run the command: it is loading its data, or is no longer the primary.
_NOT_RUN = (BusyLoadingError, ReadOnlyError)
_ERRORS = {b"NOSCRIPT": NoScriptError, b"LOADING": BusyLoadingError, b"READONLY": ReadOnlyError}
# Redis reads 16 KB of a connection at a time, and then syncs its append-only file. So large commands go over several
# connections side by side. Over one connection, each of them would wait for its own sync.
_LARGE_BYTES = 4096
_FOR_LARGE = 16
# The settings of django-redis's pool that our connection takes over.
_POOL_SETTINGS = (
    *("host", "port", "path", "db", "username", "password", "credential_provider", "client_name"),
    *("socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"),
)

# redis-py's blocking kinds of connections -> its asynchronous ones.
_KINDS: dict[type[Any], type[AbstractConnection]] = {
    redis.UnixDomainSocketConnection: UnixDomainSocketConnection,
    redis.SSLConnection: SSLConnection,
    redis.Connection: Connection,
}

_pack: Any = hiredis.pack_command  # hiredis annotates a one-element tuple, which is too narrow


def _elements(*arguments: Argument) -> memoryview:
    """Return arguments as they are in a packed command, without the number of elements in front of them."""
    packed: bytes = _pack(arguments)
    return memoryview(packed)[packed.index(b"\n") + 1 :]


class SharedKeys:
    """The first keys of a script call. Many calls share them, so they are packed once."""

    __slots__ = ("count", "packed")

    def __init__(self, *keys: str) -> None:
        self.count = len(keys)
        self.packed = bytes(_elements(*keys)) if keys else b""


_NO_KEYS = SharedKeys()


@lru_cache(maxsize=64)
def _beginning(command: str, script: str, count: int) -> bytes:
    """Return the packed beginning of a call of a script with this number of keys."""
    return bytes(_elements(command, script, count))


async def execute(*command: Argument, timeout: float) -> Any:
    """Send one command that is safe to repeat, and return its reply.

    If the connection is lost, send the command again over a new one, for up to `timeout` seconds from the beginning of
    the outage. So a client does not notice a restart of Redis, and in a long outage requests fail immediately.

    Raises RedisUnavailable, or redis-py's ResponseError if Redis refuses the command.
    """
    return await _execute(_pack(command), timeout)


async def run(
    script: Script,
    keys: Sequence[Argument],
    args: Sequence[Argument],
    *,
    timeout: float,
    shared: SharedKeys = _NO_KEYS,
    replicated: bool = False,
) -> Any:
    """Run a Lua script. See `execute` for how it is repeated and what it raises.

    This is one round trip, or two if Redis does not know the script yet.

    Args:
        script: The script.
        keys: Its last keys.
        args: Its arguments.
        timeout: See `execute`.
        shared: Its first keys, if many calls have the same ones.
        replicated: Wait for the replicas, and return the reply together with the number of replicas that have what the
            script has written. The script must write something: Redis counts for the writes of a connection only.
    """
    elements = _elements(*keys, *args)
    count = shared.count + len(keys)
    size = b"*%d\r\n" % (3 + count + len(args))
    try:
        begin = _beginning("EVALSHA", script.digest, count)
        return await _execute(b"".join((size, begin, shared.packed, elements)), timeout, replicated=replicated)
    except NoScriptError:
        begin = _beginning("EVAL", script.source, count)
        return await _execute(b"".join((size, begin, shared.packed, elements)), timeout, replicated=replicated)


async def _execute(packed: bytes, timeout: float, *, replicated: bool = False) -> Any:
    pipeline = _pipeline(len(packed), replicated=replicated)
    deadline = pipeline.loop.time() + timeout
    link = pipeline.link
    if link is None or not link.is_open:
        return await pipeline.repeat(packed, timeout, deadline, None)
    try:
        reply = await link.send(packed)
    except _UNREACHABLE as failure:
        return await pipeline.repeat(packed, timeout, deadline, failure)
    _Process.outage_since = None
    return reply


class _Link(asyncio.Protocol):
    """One connection: what is to be sent, and the futures that wait for replies, in order."""

    def __init__(self, limit: float) -> None:
        self.is_open = True
        self._limit = limit  # seconds that Redis may leave commands unanswered
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=RedisConnectionError, replyError=_error)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._silent = 0  # times that `_watch` has found waiting commands and no new reply

    def take_over(self, connection: Any) -> None:
        """Use the transport of a connection whose handshake is done."""
        self._connection = connection  # it would close the transport when it is deleted
        self._transport: asyncio.Transport = connection._writer.transport
        self._transport.set_protocol(self)
        self._watch()

    def send(self, packed: bytes) -> Awaitable[Any]:
        """Return a future for the reply. It fails with ConnectionError or TimeoutError if the connection is lost."""
        future = self._loop.create_future()
        self._waiting.append(future)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        return future

    def _flush(self) -> None:
        if self.is_open:
            self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                future = waiting.popleft()
                if future.done():  # the caller was canceled
                    continue
                if isinstance(reply, RedisError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
                if isinstance(reply, ReadOnlyError):  # no longer the primary: look for the new one
                    self.close(reply)
        except (RedisConnectionError, IndexError) as failure:  # not Redis's protocol, or a reply to no command
            self.close(failure)

    def connection_lost(self, failure: Exception | None) -> None:
        self.close(failure or RedisConnectionError("Redis closed the connection"))

    def close(self, failure: Exception) -> None:
        """End the connection; every command without a reply fails."""
        if not self.is_open:
            return
        self.is_open = False
        self._watcher.cancel()
        self._transport.abort()
        kind = RedisTimeoutError if isinstance(failure, RedisTimeoutError) else RedisConnectionError
        for future in self._waiting:
            if not future.done():
                future.set_exception(kind(str(failure)))
        self._waiting.clear()

    def _watch(self) -> None:
        """Give up a connection on which Redis leaves commands unanswered for too long.

        Count looks instead of seconds: after this process was stopped for a while, the replies may be here already.
        """
        self._watcher = self._loop.call_later(self._limit / _WATCHES, self._watch)
        self._silent = self._silent + 1 if self._waiting else 0
        if self._silent > _WATCHES:
            self.close(RedisTimeoutError("no answer from Redis"))


class _ReplicatedLink(_Link):
    """A connection on which each reply comes with the number of replicas that have what was written before it.

    Commands of the same turn of the event loop share one WAIT. Redis reads nothing more from the connection meanwhile,
    so the next commands share the next one.
    """

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self._wait: bytes = _pack(wait_command())
        self._replicas: asyncio.Future[int] | None = None  # the reply to the WAIT of this turn

    def send(self, packed: bytes) -> Awaitable[Any]:
        reply = super().send(packed)
        if self._replicas is None:
            self._replicas = self._loop.create_future()
            self._replicas.add_done_callback(_retrieve)
        return _together(reply, self._replicas)

    def _flush(self) -> None:
        if self._replicas is not None:
            self._out.append(self._wait)
            self._waiting.append(self._replicas)
            self._replicas = None
        super()._flush()


async def _together(reply: Awaitable[Any], replicas: "asyncio.Future[int]") -> tuple[Any, int]:
    return await reply, await asyncio.shield(replicas)  # others wait for the same number


def _retrieve(replicas: "asyncio.Future[int]") -> None:
    """Keep asyncio from reporting the failure if no command of the turn has waited for the number."""
    if not replicas.cancelled():  # codespell:ignore
        replicas.exception()


class _Pipeline:
    """One of the process's connections, opened again when it is lost."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: type[_Link]) -> None:
        self.loop = loop
        self._kind = kind
        self.link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    async def repeat(self, packed: bytes, timeout: float, deadline: float, failure: Exception | None) -> Any:
        """Send a command over a new connection until there is a reply or the time is up."""
        sent = failure is not None and not isinstance(failure, _NOT_RUN)
        if sent and isinstance(failure, RedisConnectionError):
            failure = None  # Redis may close an idle connection at any time, so it may be fine: try immediately
        while True:
            if failure is not None:
                await self._pause(deadline, timeout, sent=sent, failure=failure)
            try:
                async with asyncio.timeout_at(deadline if timeout else None):  # others may wait longer for the attempt
                    link = await self._connected()
            except _UNREACHABLE as lost:
                failure = lost
                continue
            try:
                reply = await link.send(packed)
            except _NOT_RUN as refusal:
                failure = refusal
            except _UNREACHABLE as lost:
                sent, failure = True, lost
            else:
                _Process.outage_since = None
                return reply

    async def _pause(self, deadline: float, timeout: float, *, sent: bool, failure: Exception) -> None:
        """Wait before the next attempt. Raises RedisUnavailable if there is no time for one."""
        now = self.loop.time()
        if _Process.outage_since is None:
            _Process.outage_since = now
        if min(deadline, _Process.outage_since + timeout) <= now + _PAUSE_SECONDS:
            raise RedisUnavailable(sent=sent) from failure
        await asyncio.sleep(_PAUSE_SECONDS)

    async def _connected(self) -> _Link:
        """Return the open connection. All who need a new one wait for the same attempt."""
        if self.link is not None and self.link.is_open:
            return self.link
        if self._connecting is None or self._connecting.done():
            self._connecting = shared(_connect(self._kind))
        self.link = await asyncio.shield(self._connecting)
        return self.link


async def _connect(link_kind: type[_Link]) -> _Link:
    """Open a connection with the settings of django-redis's pool: plain, TLS or unix socket.

    redis-py makes the connection (TLS, AUTH, SELECT). Then our protocol takes its transport over. If there are
    sentinels, each new connection asks them for the primary.
    """
    pool = client().connection_pool
    kwargs = pool.connection_kwargs
    ours = {name: kwargs[name] for name in kwargs if name in _POOL_SETTINGS or name.startswith("ssl_")}
    if isinstance(pool, SentinelConnectionPool):
        ours["host"], ours["port"] = await FINDING.run(pool.get_master_address)
    limit: float = settings.REDIS_TIMEOUT_SECONDS
    kind = next(ours for theirs, ours in _KINDS.items() if issubclass(pool.connection_class, theirs))
    connection: Any = kind(**ours, protocol=2, socket_timeout=limit, retry=Retry(NoBackoff(), 0))
    await connection.connect()
    link = link_kind(limit)
    link.take_over(connection)
    return link


def _error(text: str) -> RedisError:
    """Return the exception for an error reply."""
    kind = _ERRORS.get(text.partition(" ")[0].encode(), ResponseError)
    if kind is ResponseError and "-READONLY " in text:  # Redis 6 puts the error of a script's command behind its own
        kind = ReadOnlyError
    return kind(text)


class _Process:
    pipelines: tuple[_Pipeline, ...] = ()
    replicated: tuple[_Pipeline, ...] = ()  # the same for commands that wait for replicas
    turn = 0
    # When the outage began, by the loop's clock; None if there is none. All connections of the process share it.
    outage_since: float | None = None


def _pipeline(size: int, *, replicated: bool = False) -> _Pipeline:
    """Return the connection for a command: one for all small ones, and for large ones each of the others in turn."""
    loop = asyncio.get_running_loop()
    pipelines = _Process.replicated if replicated else _Process.pipelines
    if not pipelines or pipelines[0].loop is not loop:
        kind = _ReplicatedLink if replicated else _Link
        pipelines = tuple(_Pipeline(loop, kind) for _ in range(1 + _FOR_LARGE))
        if replicated:
            _Process.replicated = pipelines
        else:
            _Process.pipelines = pipelines
    if size < _LARGE_BYTES:
        return pipelines[0]
    _Process.turn = _Process.turn % _FOR_LARGE + 1
    return pipelines[_Process.turn]
