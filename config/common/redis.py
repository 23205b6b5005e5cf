"""Redis for threads, through django-redis's client. The request path uses `config.common.pipelined` instead.

REDIS_URL names one primary or a cluster. In a cluster, the keys of a script or of a transaction must be on one node, so
their names have the same part in braces.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import NoScriptError

from config.common.cluster import pipelines
from config.common.cluster.key_tags import is_cluster, tagged

Argument = str | bytes | int | float


class RedisUnavailable(Exception):
    """Redis gave no answer in time.

    If `sent` is True, the command may have reached Redis. If it is False, the command has certainly not run.
    """

    def __init__(self, *, sent: bool) -> None:
        super().__init__("no answer from Redis")
        self.sent = sent


def client() -> Any:
    """Return django-redis's client of the default cache, with a pool of connections for each server.

    The client never repeats a command that a server may have run. It is a `redis.Redis`, or in a cluster a
    `RedisCluster`, which sends a command to the node that has its first key.

    The type is Any, because redis-py's annotations describe its synchronous and asynchronous clients together.
    """
    return get_redis_connection("default")


def primaries() -> list[Any]:
    """Return a client for each primary, for commands without a key: INFO, CONFIG GET, TIME, SCAN."""
    found = client()
    return [found.get_redis_connection(node) for node in found.get_primaries()] if is_cluster() else [found]


def pipeline(key: Argument, *, transaction: bool) -> Any:
    """Return a pipeline of redis-py for commands whose keys are all on the node of `key`.

    In a cluster, the pipeline follows the key to its node. If no node has run a command, the pipeline repeats it for up
    to REDIS_TIMEOUT_SECONDS.
    """
    if is_cluster():
        return pipelines.NodePipeline(client(), key, transaction=transaction)
    return client().pipeline(transaction=transaction)


def each(commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """Run independent commands, and return their replies. Raise the first error.

    The second element of each command is its only key. All commands together take one round trip, in a cluster one to
    each node.
    """
    replies = _send([(command[1], command) for command in commands])
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _send(commands: Sequence[tuple[Argument, Sequence[Argument]]]) -> list[Any]:
    """Run commands. Each comes with the key that decides its node. Return their replies and exceptions."""
    if not commands:
        return []
    if is_cluster():
        return pipelines.spread(client(), commands)
    with client().pipeline(transaction=False) as pipe:
        for _, command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = pipe.execute(raise_on_error=False)
    return replies


class TooFewReplicas(OSError):
    """Fewer replicas than REDIS_WAIT_REPLICAS have the latest data of Redis. A failover now could lose this data."""

    def __init__(self) -> None:
        wanted = settings.REDIS_WAIT_REPLICAS
        super().__init__(f"fewer than {wanted} replicas of Redis (REDIS_WAIT_REPLICAS) have its latest data")


def wait_command() -> tuple[Argument, ...]:
    """Return the command that waits until REDIS_WAIT_REPLICAS replicas have all writes of its connection.

    The command waits for at most half of REDIS_TIMEOUT_SECONDS, so that a waiting Redis does not look like a stuck one.
    """
    return "WAIT", settings.REDIS_WAIT_REPLICAS, int(settings.REDIS_TIMEOUT_SECONDS * 1000 / 2)


def require_replicas(pipe: Any | None = None, *, tag: int) -> list[Any]:
    """Wait until REDIS_WAIT_REPLICAS replicas have all data that Redis has now. If the setting is 0, do not wait.

    Args:
        pipe: A `pipeline` for keys with this tag. Its commands run before the wait.
        tag: In a cluster, wait for the replicas of the node that has the keys with this tag.

    Returns:
        The replies to the commands of `pipe`.

    Raises:
        TooFewReplicas: Not enough replicas answered in time.
    """
    key = tagged("replicated", tag)
    with pipe or pipeline(key, transaction=False) as step:
        if is_cluster():
            step.is_whole = True  # the replies and the number of replicas must come from one node
        # WAIT is only about writes of its own connection, so write something.
        step.set(key, "", px=60_000)
        step.execute_command(*wait_command())
        replies: list[Any] = step.execute()
    if replies.pop() < settings.REDIS_WAIT_REPLICAS:
        raise TooFewReplicas
    return replies[:-1]


class Script:
    """A Lua script, called by its digest. Redis gets the source only if it does not know the digest yet."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        self.digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, *, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """Run the script over a connection of `client`'s pool. Try only once. Call this in threads only."""
        try:
            return client().evalsha(self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return client().eval(self.source, len(keys), *keys, *args)


class Call(NamedTuple):
    """One run of a script."""

    script: Script
    keys: Sequence[Argument]
    args: Sequence[Argument]


def run_all(calls: Sequence[Call]) -> list[Any]:
    """Run independent scripts, and return their replies. Raise the first error.

    All scripts together take one round trip. In a cluster, they take one to each node that has their keys.
    """
    replies = _send([(keys[0], ("EVALSHA", script.digest, len(keys), *keys, *args)) for script, keys, args in calls])
    for at, (call, reply) in enumerate(zip(calls, replies, strict=True)):
        if isinstance(reply, NoScriptError):
            replies[at] = call.script(keys=call.keys, args=call.args)
        elif isinstance(reply, Exception):
            raise reply
    return replies


def scripts_in(folder: Path) -> Callable[[str], Script]:
    """Return a function that takes a name and returns the script `<folder>/<name>.lua`. Each file is read once."""
    return cache(lambda name: Script(folder / f"{name}.lua"))
