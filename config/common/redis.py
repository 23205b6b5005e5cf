"""Redis as threads use it: django-redis's client. The request path uses `config.common.pipelined`.

Redis Cluster is not supported: one script must see quota, queue and revision together, and the quota's key names are
fixed without a hash tag. REDIS_URL names one primary.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import NoScriptError

Argument = str | bytes | int | float


class RedisUnavailable(Exception):
    """Redis gave no answer in time.

    `sent` tells whether the command may have reached it: False means that certainly nothing happened.
    """

    def __init__(self, *, sent: bool) -> None:
        super().__init__("no answer from Redis")
        self.sent = sent


def client() -> Any:
    """django-redis's client (a `redis.Redis`) of the default cache: pooled, one attempt a command.

    Typed as Any: redis-py's annotations describe its synchronous and asynchronous clients together.
    """
    return get_redis_connection("default")


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


def require_replicas(pipe: Any | None = None) -> list[Any]:
    """Wait until enough replicas have all that Redis has now. With REDIS_WAIT_REPLICAS=0, there is nothing to wait for.

    Args:
        pipe: A pipeline with commands to execute before that, on the same server.

    Returns:
        The replies to these commands.

    Raises:
        TooFewReplicas: Not enough replicas answered in time.
    """
    with pipe or client().pipeline(transaction=False) as step:
        # WAIT is only about writes of its own connection, so write something.
        step.set("replicated", "", px=60_000)
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
    """Run scripts in one round trip, each as a step of its own. Return their replies. Raise the first error."""
    if not calls:
        return []
    with client().pipeline(transaction=False) as pipe:
        for script, keys, args in calls:
            pipe.evalsha(script.digest, len(keys), *keys, *args)
        replies = pipe.execute(raise_on_error=False)
    for at, (call, reply) in enumerate(zip(calls, replies, strict=True)):
        if isinstance(reply, NoScriptError):
            replies[at] = call.script(keys=call.keys, args=call.args)
        elif isinstance(reply, Exception):
            raise reply
    return list(replies)


def scripts_in(folder: Path) -> Callable[[str], Script]:
    """Return a function that returns the script `<folder>/<name>.lua` for a name, and reads it once."""
    return cache(lambda name: Script(folder / f"{name}.lua"))
