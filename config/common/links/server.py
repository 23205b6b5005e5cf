"""The connections to one server: one for small and 16 for large commands, and as many for replicated commands."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import redis
from django.conf import settings
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import SentinelConnectionPool

from config.common.links.link import NOT_RUN, UNREACHABLE, Link, ReplicatedLink
from config.common.loop import shared
from config.common.redis import RedisUnavailable, client
from config.common.threads import FINDING

# The pause between two attempts to reach Redis, while it does not answer.
_PAUSE_SECONDS = 0.05
# Redis reads 16 KB of a connection at a time, and then syncs its append-only file. So large commands use several
# connections at the same time. Over one connection, each large command would wait for a sync of its own.
_LARGE_BYTES = 4096
FOR_LARGE = 16
# The settings of django-redis's pool that our connections also use.
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


class Server:
    """The connections of an event loop to one server."""

    is_cluster = False

    def __init__(self, loop: asyncio.AbstractEventLoop, connect: Callable[[], Awaitable[Any]]) -> None:
        """Remember `connect`, which opens redis-py's connection to the server."""
        self.loop = loop
        # The time when the outage began, by the loop's clock. None if there is no outage. All connections of the
        # process share it.
        self.outage_since: float | None = None
        self._pipelines = tuple(Pipeline(self, Link, connect) for _ in range(1 + FOR_LARGE))
        # The connections for commands that wait for replicas.
        self._replicated = tuple(Pipeline(self, ReplicatedLink, connect) for _ in range(1 + FOR_LARGE))
        self._turn = 0

    async def execute(self, _: int, packed: bytes, timeout: float, *, replicated: bool = False) -> Any:
        """Send a command. See `config.common.pipelined.execute`. One server has all slots."""
        pipeline = self.pipeline(len(packed), replicated)
        deadline = self.loop.time() + timeout
        link = pipeline.link
        if link is None or not link.is_open:
            return await pipeline.repeat(packed, timeout, deadline, None)
        try:
            reply = await link.send(packed)
        except UNREACHABLE as failure:
            return await pipeline.repeat(packed, timeout, deadline, failure)
        self.outage_since = None
        return reply

    def pipeline(self, size: int, replicated: bool) -> "Pipeline":
        """Return the connection for a command. All small commands share one. Large commands use the others in turn."""
        pipelines = self._replicated if replicated else self._pipelines
        if size < _LARGE_BYTES:
            return pipelines[0]
        self._turn = self._turn % FOR_LARGE + 1
        return pipelines[self._turn]

    def close_idle(self) -> None:
        """Close the connections on which no command waits for a reply."""
        for pipeline in (*self._pipelines, *self._replicated):
            if pipeline.link is not None and pipeline.link.is_idle:
                pipeline.link.close(RedisConnectionError("the server does not belong to the cluster now"))


class Pipeline:
    """One connection to the server. After it is lost, the next command opens a new one."""

    def __init__(self, server: Server, kind: type[Link], connect: Callable[[], Awaitable[Any]]) -> None:
        self.server = server
        self.link: Link | None = None
        self._kind = kind
        self._connect = connect
        self._connecting: asyncio.Task[Link] | None = None

    async def repeat(self, packed: bytes, timeout: float, deadline: float, failure: Exception | None) -> Any:
        """Send a command over a new connection until there is a reply or the time is up."""
        sent = failure is not None and not isinstance(failure, NOT_RUN)
        if sent and isinstance(failure, RedisConnectionError):
            failure = None  # try again immediately: Redis may only have closed an idle connection
        while True:
            if failure is not None:
                await pause(self.server, deadline, timeout, sent=sent, failure=failure)
            try:
                link = await self.connected(deadline if timeout else None)
            except UNREACHABLE as lost:
                failure = lost
                continue
            try:
                reply = await link.send(packed)
            except NOT_RUN as refusal:
                failure = refusal
            except UNREACHABLE as lost:
                sent, failure = True, lost
            else:
                self.server.outage_since = None
                return reply

    async def connected(self, deadline: float | None) -> Link:
        """Return the open connection. Callers that need a new one share one attempt. Each has its own deadline."""
        if self.link is not None and self.link.is_open:
            return self.link
        if self._connecting is None or self._connecting.done():
            self._connecting = shared(self._open())
        async with asyncio.timeout_at(deadline):
            self.link = await asyncio.shield(self._connecting)
        return self.link

    async def _open(self) -> Link:
        """Let redis-py make the connection (TLS, AUTH, SELECT). Then our protocol takes over its transport."""
        connection = await self._connect()
        link = self._kind(settings.REDIS_TIMEOUT_SECONDS)
        link.take_over(connection)
        return link


async def pause(outage: Any, deadline: float, timeout: float, *, sent: bool, failure: Exception) -> None:
    """Wait before the next attempt. Raises RedisUnavailable if there is no time for it.

    Args:
        outage: The server or the cluster that does not work. Its `outage_since` is the beginning of the outage.
        deadline: The time, by the loop's clock, at which the command must fail.
        timeout: For how many seconds after the beginning of the outage commands are tried again.
        sent: Whether the command may have been run.
        failure: Why the last attempt failed.
    """
    now = asyncio.get_running_loop().time()
    if outage.outage_since is None:
        outage.outage_since = now
    if min(deadline, outage.outage_since + timeout) <= now + _PAUSE_SECONDS:
        raise RedisUnavailable(sent=sent) from failure
    await asyncio.sleep(_PAUSE_SECONDS)


async def connect() -> AbstractConnection:
    """Open a connection with the settings of django-redis's pool: plain, TLS or unix socket.

    If there are sentinels, each new connection asks them for the primary.
    """
    pool = client().connection_pool
    kwargs = dict(pool.connection_kwargs)
    if isinstance(pool, SentinelConnectionPool):
        kwargs["host"], kwargs["port"] = await FINDING.run(pool.get_master_address)
    return await connect_with(kwargs, pool.connection_class)


async def connect_with(arguments: dict[str, Any], connection_class: type[Any]) -> AbstractConnection:
    """Open a connection with the arguments and the class of redis-py's blocking connections."""
    ours = {name: value for name, value in arguments.items() if name in _POOL_SETTINGS or name.startswith("ssl_")}
    kind: Any = next(ours for theirs, ours in _KINDS.items() if issubclass(connection_class, theirs))
    limit = settings.REDIS_TIMEOUT_SECONDS
    connection: AbstractConnection = kind(**ours, protocol=2, socket_timeout=limit, retry=Retry(NoBackoff(), 0))
    await connection.connect()  # type: ignore[no-untyped-call]
    return connection
