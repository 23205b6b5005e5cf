"""One connection to a server, and what its replies mean."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

import hiredis
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from config.common.redis import wait_command

pack: Any = hiredis.pack_command  # hiredis annotates a one-element tuple, which is too narrow

# These errors mean that the server cannot be reached, is loading its data, or is no longer the primary.
UNREACHABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)
# These errors mean that a node of a cluster does not have the key now. MovedError is a subclass of AskError.
ELSEWHERE = (AskError, TryAgainError, ClusterDownError)
# A server that answers with one of these errors has certainly not run the command.
NOT_RUN = (BusyLoadingError, ReadOnlyError, *ELSEWHERE)

# How often within REDIS_TIMEOUT_SECONDS we check whether Redis still answers.
_WATCHES = 4
_ASKING: bytes = pack(("ASKING",))
_ERRORS: dict[str, type[RedisError]] = {
    "NOSCRIPT": NoScriptError,
    "LOADING": BusyLoadingError,
    "READONLY": ReadOnlyError,
    "TRYAGAIN": TryAgainError,
    "CLUSTERDOWN": ClusterDownError,
    "MASTERDOWN": ClusterDownError,
}
_REDIRECTIONS = {"MOVED": MovedError, "ASK": AskError}


class Link(asyncio.Protocol):
    """One connection: the commands to send, and the futures that wait for replies, in order."""

    def __init__(self, limit: float) -> None:
        self.is_open = True
        self._limit = limit  # seconds that Redis may leave commands unanswered
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=RedisConnectionError, replyError=_error)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._silent = 0  # how many times in a row `_watch` has found waiting commands and no new reply

    def take_over(self, connection: Any) -> None:
        """Use the transport of a connection whose handshake is done."""
        self._connection = connection  # keep it: when redis-py's connection is deleted, it closes the transport
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

    def send_asked(self, packed: bytes) -> Awaitable[Any]:
        """Send a command to the node that an ASK reply has named. After ASKING, this node runs the command.

        Without ASKING, the node would refuse the command, because the slot does not belong to this node yet.
        """
        reply: Any = Link.send(self, _ASKING)
        reply.add_done_callback(_retrieve)
        return self.send(packed)

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
        except (RedisConnectionError, IndexError) as failure:  # not Redis's protocol, or more replies than commands
            self.close(failure)

    @property
    def is_idle(self) -> bool:
        """Whether no command waits for a reply."""
        return not self._waiting

    def connection_lost(self, failure: Exception | None) -> None:
        self.close(failure or RedisConnectionError("Redis closed the connection"))

    def close(self, failure: Exception) -> None:
        """End the connection. Every command that has no reply yet fails."""
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

        Count checks instead of seconds: if this process was stopped for a while, replies may have arrived meanwhile.
        """
        self._watcher = self._loop.call_later(self._limit / _WATCHES, self._watch)
        self._silent = self._silent + 1 if self._waiting else 0
        if self._silent > _WATCHES:
            self.close(RedisTimeoutError("no answer from Redis"))


class ReplicatedLink(Link):
    """A connection that returns each reply together with the number of replicas that have the command's writes.

    All commands of one turn of the event loop share one WAIT. Until this WAIT ends, Redis reads nothing more from the
    connection. Later commands share the next WAIT.
    """

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self._wait: bytes = pack(wait_command())
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
    return await reply, await asyncio.shield(replicas)  # shielded, because other commands also wait for `replicas`


def _retrieve(reply: "asyncio.Future[Any]") -> None:
    """Keep asyncio from reporting the failure of a reply that no command has waited for."""
    if not reply.cancelled():  # codespell:ignore
        reply.exception()


def _error(text: str) -> RedisError:
    """Return the exception for an error reply."""
    name, _, rest = text.partition(" ")
    if name in _REDIRECTIONS:
        return _REDIRECTIONS[name](rest)
    kind = _ERRORS.get(name, ResponseError)
    if kind is ResponseError and "-READONLY " in text:  # in Redis 6, an error inside a script
        kind = ReadOnlyError
    return kind(text)
