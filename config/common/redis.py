"""Redis as threads use it: django-redis's client. The request path uses `config.common.pipelined`.

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

    `sent` tells whether the command may have reached it: False means that certainly nothing happened.
    """

    def __init__(self, *, sent: bool) -> None:
        super().__init__("no answer from Redis")
        self.sent = sent


def client() -> Any:
    """django-redis's client of the default cache: pooled, one attempt a command.

    It is a `redis.Redis`. In a cluster it is a `RedisCluster`: it sends a command to the node that has its first key.
    Typed as Any: redis-py's annotations describe its synchronous and asynchronous clients together.
    """
    return get_redis_connection("default")


def primaries() -> list[Any]:
    """Return a client for each primary, for commands without a key: INFO, CONFIG GET, TIME, SCAN."""
    found = client()
    return [found.get_redis_connection(node) for node in found.get_primaries()] if is_cluster() else [found]


def pipeline(key: Argument, *, transaction: bool) -> Any:
    """Return a pipeline of redis-py for commands whose keys are all on the node of `key`.

    In a cluster, it follows the key to its node, and repeats for up to REDIS_TIMEOUT_SECONDS what no node has run.
    """
    if is_cluster():
        return pipelines.NodePipeline(client(), key, transaction=transaction)
    return client().pipeline(transaction=transaction)


def each(commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """Run independent commands of one key each, their second element. Return their replies. Raise the first error.

    This is one round trip. In a cluster, it is one to each node.
    """
    replies = _send([(command[1], command) for command in commands])
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _send(commands: Sequence[tuple[Argument, Sequence[Argument]]]) -> list[Any]:
    """Run commands, each with the key that decides its node. Return their replies and exceptions."""
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
    """Fewer replicas than REDIS_WAIT_REPLICAS have what Redis has. A failover now could lose it."""

    def __init__(self) -> None:
        wanted = settings.REDIS_WAIT_REPLICAS
        super().__init__(f"fewer than {wanted} replicas of Redis (REDIS_WAIT_REPLICAS) have its latest data")


def wait_command() -> tuple[Argument, ...]:
    """Return the command that waits until REDIS_WAIT_REPLICAS have what its connection has written.

    It ends before REDIS_TIMEOUT_SECONDS have passed, so that a Redis that waits is not taken for one that is stuck.
    """
    return "WAIT", settings.REDIS_WAIT_REPLICAS, int(settings.REDIS_TIMEOUT_SECONDS * 1000 / 2)


def require_replicas(pipe: Any | None = None, *, tag: int) -> list[Any]:
    """Wait until enough replicas have all that Redis has now. With REDIS_WAIT_REPLICAS=0, there is nothing to wait for.

    Args:
        pipe: A `pipeline` for keys with this tag, with commands to execute before that.
        tag: In a cluster, the node that has the keys with this tag is the one that must have replicas.

    Returns:
        The replies to these commands.

    Raises:
        TooFewReplicas: Not enough replicas answered in time.
    """
    key = tagged("replicated", tag)
    with pipe or pipeline(key, transaction=False) as step:
        if is_cluster():
            step.is_whole = True  # the replies and the number are about the same node
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
        """Run the script with one attempt, over a connection of `client`'s pool. For threads."""
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
    """Run scripts, each as a step of its own. Return their replies. Raise the first error.

    This is one round trip. In a cluster, it is one to each node.
    """
    replies = _send([(keys[0], ("EVALSHA", script.digest, len(keys), *keys, *args)) for script, keys, args in calls])
    for at, (call, reply) in enumerate(zip(calls, replies, strict=True)):
        if isinstance(reply, NoScriptError):
            replies[at] = call.script(keys=call.keys, args=call.args)
        elif isinstance(reply, Exception):
            raise reply
    return replies


def scripts_in(folder: Path) -> Callable[[str], Script]:
    """Return a function that returns the script `<folder>/<name>.lua` for a name, and reads it once."""
    return cache(lambda name: Script(folder / f"{name}.lua"))
