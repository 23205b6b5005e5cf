"""Redis as threads use it: django-redis's client. The request path uses `config.common.pipelined`.

Redis Cluster is not supported: one script must see quota, queue and revision together, and the quota's key names are
fixed without a hash tag. REDIS_URL names one primary.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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
