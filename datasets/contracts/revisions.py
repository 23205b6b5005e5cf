"""A revision per project: what makes an admin's change effective on the next request, on every process.

A web process caches contracts with the revision it read *before* it read the database. Whoever changes a project
writes a new revision, and `admit.lua` compares. Revisions are random, not counted: a Redis that was wiped cannot
arrive at an old one again.

Redis keys
    revision:project:<project id>   the revision; starts with `~` while a change is being committed
"""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import transaction
from redis.exceptions import RedisError

from config.common import redis
from config.common.errors import Refused

# Contracts read under such a revision are not cached: the change they may lack has begun, but not ended.
CHANGING = b"~"
# A change that died between commit and announcement: after so long the next reader makes a new revision.
_CHANGING_SECONDS = 60


class ChangeRefused(Refused):
    """A change that could not take effect at once, because Redis did not answer. Nothing was changed."""


def key(project_id: int) -> str:
    """The Redis key of a project's revision."""
    return f"revision:project:{project_id}"


def is_settled(revision: bytes) -> bool:
    """Whether contracts read under the revision may be cached."""
    return not revision.startswith(CHANGING)


def current(project_id: int, *, timeout: float) -> bytes:
    """The revision in force, made now if there is none. Raises `config.common.redis.RedisUnavailable`."""
    found: bytes | None = redis.execute("GET", key(project_id), timeout=timeout)
    if found is None:
        redis.execute("SET", key(project_id), secrets.token_hex(8), "NX", timeout=timeout)
        found = redis.execute("GET", key(project_id), timeout=timeout)
    return found or CHANGING


def several(project_ids: Iterable[int], *, timeout: float) -> dict[int, bytes | None]:
    """The projects' revisions in force, None where there is none. Raises `config.common.redis.RedisUnavailable`."""
    wanted = list(project_ids)
    return dict(zip(wanted, redis.execute("MGET", *map(key, wanted), timeout=timeout), strict=True))


@contextmanager
def changing(*project_ids: int) -> Iterator[None]:
    """A database transaction that changes what the projects' requests are held to.

    The change is announced before it is committed, so that it is refused where it could not take effect, and again
    after. Raises ChangeRefused.
    """
    with transaction.atomic():
        yield
        try:
            for project_id in project_ids:
                revision = CHANGING + secrets.token_hex(8).encode()
                redis.client().set(key(project_id), revision, ex=_CHANGING_SECONDS)
        except (RedisError, OSError) as failure:
            raise ChangeRefused("Redis does not answer, so the change could not take effect. Try again.") from failure
        transaction.on_commit(lambda: _announce(project_ids))


def _announce(project_ids: tuple[int, ...]) -> None:
    """Publish a settled revision. Should Redis fail just now, the unsettled one already keeps caches out of use."""
    for project_id in project_ids:
        try:
            redis.client().set(key(project_id), secrets.token_hex(8))
        except (RedisError, OSError):
            continue
