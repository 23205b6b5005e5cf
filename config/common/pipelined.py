"""Redis on the request path: one connection per process for small commands, and a few more for large ones.

Commands that become ready in the same turn of the event loop are sent with one write. Redis answers in order, so the
first future that waits gets the first reply. No command waits for the reply to another one. Commands that wait for
replicas have connections of their own. In a cluster, a process has all these connections to each node.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings
from redis.exceptions import NoScriptError

from config.common.links.link import pack
from config.common.links.nodes import Nodes, slot_of
from config.common.links.server import Server, connect
from config.common.redis import Argument, Script


def _elements(*arguments: Argument) -> memoryview:
    """Return the part of a packed command for these arguments, without the number of elements at its start."""
    packed: bytes = pack(arguments)
    return memoryview(packed)[packed.index(b"\n") + 1 :]


class SharedKeys:
    """The first keys of a script call. Many calls share them, so they are packed once."""

    __slots__ = ("count", "packed", "slot")

    def __init__(self, *keys: str) -> None:
        self.count = len(keys)
        self.packed = bytes(_elements(*keys)) if keys else b""
        self.slot = slot_of(keys[0]) if keys and settings.REDIS_IS_CLUSTER else None


_NO_KEYS = SharedKeys()


@lru_cache(maxsize=64)
def _beginning(command: str, script: str, count: int) -> bytes:
    """Return the packed beginning of a call of a script with this number of keys."""
    return bytes(_elements(command, script, count))


async def execute(*command: Argument, timeout: float, key: Argument | None = None) -> Any:
    """Send one command that is safe to repeat, and return its reply.

    In a cluster, the command goes to the node that has `key`. By default, `key` is the command's second element.

    If the connection is lost, send the command again over a new one, for up to `timeout` seconds from the beginning of
    the outage. So a client does not notice a restart of Redis, and in a long outage requests fail immediately. In a
    cluster, also send the command again while its slot has no primary or is being moved.

    Raises RedisUnavailable, or redis-py's ResponseError if Redis refuses the command.
    """
    redis = _redis()
    slot = slot_of(command[1] if key is None else key) if redis.is_cluster else 0
    return await redis.execute(slot, pack(command), timeout)


async def run(
    script: Script,
    keys: Sequence[Argument],
    args: Sequence[Argument],
    *,
    timeout: float,
    shared: SharedKeys = _NO_KEYS,
    replicated: bool = False,
) -> Any:
    """Run a Lua script. This repeats a script as `execute` repeats a command, and raises the same errors.

    This takes one round trip, or two if Redis does not know the script yet.

    Args:
        script: The script.
        keys: The script's keys after those in `shared`.
        args: The script's arguments.
        timeout: See `execute`.
        shared: The script's first keys, if many calls have the same first keys.
        replicated: Wait for the replicas. Return the reply together with the number of replicas that have the script's
            writes. The script must write something: WAIT counts the replicas that have the writes of the connection on
            which it is called.
    """
    elements = _elements(*keys, *args)
    count = shared.count + len(keys)
    size = b"*%d\r\n" % (3 + count + len(args))
    redis = _redis()
    slot = shared.slot
    if slot is None:
        slot = slot_of(keys[0]) if redis.is_cluster else 0
    try:
        begin = _beginning("EVALSHA", script.digest, count)
        packed = b"".join((size, begin, shared.packed, elements))
        return await redis.execute(slot, packed, timeout, replicated=replicated)
    except NoScriptError:
        begin = _beginning("EVAL", script.source, count)
        packed = b"".join((size, begin, shared.packed, elements))
        return await redis.execute(slot, packed, timeout, replicated=replicated)


class _Process:
    redis: Server | Nodes | None = None


def _redis() -> Server | Nodes:
    """Return the connections of this process's event loop."""
    loop = asyncio.get_running_loop()
    redis = _Process.redis
    if redis is None or redis.loop is not loop:
        redis = _Process.redis = Nodes(loop) if settings.REDIS_IS_CLUSTER else Server(loop, connect)
    return redis
