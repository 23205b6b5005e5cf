"""A revision for each project. It makes an admin's change take effect in all processes, with the next request.

A web process caches each contract with the revision that it read *before* it read the database. A change of a project
writes a new revision, and `admit.lua` compares the two revisions. Revisions are random numbers, not a count. So a Redis
that was wiped cannot repeat an old revision.

Redis keys
    revision:project:<project ID>   the revision; starts with `~` while a change is being committed
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import transaction
from redis.exceptions import RedisError

from config.common import pipelined, redis
from config.common.cluster.key_tags import tagged
from config.common.errors import Refused
from config.common.threads import READING
from datasets import tags

# While a change is being committed, the revision begins with this. Contracts that are read under this revision are
# not cached, because they may lack the change.
CHANGING = b"~"
# If a process dies between commit and announcement, the next reader makes a new revision after 60 seconds.
_CHANGING_SECONDS = 60


class ChangeRefused(Refused):
    """Redis did not answer, so the change could not take effect immediately. Nothing was changed."""


def key(project_id: int) -> str:
    """Return the Redis key of a project's revision."""
    return tagged(f"revision:project:{project_id}", tags.of_project(project_id))


def is_settled(revision: bytes) -> bool:
    """Return whether contracts read under the revision may be cached: no change is being committed."""
    return not revision.startswith(CHANGING)


async def current(project_id: int, *, timeout: float) -> bytes:
    """Return a project's revision, and make one if there is none.

    Args:
        project_id: The project.
        timeout: Seconds to wait for Redis.

    Raises:
        config.common.redis.RedisUnavailable: Redis does not answer.
    """
    if not tags.is_known(project_id):
        await READING.run(tags.of_project, project_id)
    found: bytes | None = await pipelined.execute("GET", key(project_id), timeout=timeout)
    if found is None:
        await pipelined.execute("SET", key(project_id), secrets.token_hex(8), "NX", timeout=timeout)
        found = await pipelined.execute("GET", key(project_id), timeout=timeout)
    return found or CHANGING


def current_many(project_ids: Iterable[int]) -> dict[int, bytes | None]:
    """Return the revisions of projects by project ID. A missing revision is None. Raises RedisError.

    Call this in threads only.
    """
    wanted: defaultdict[int, list[int]] = defaultdict(list)  # by tag: in a cluster, MGET needs keys of one slot
    for project_id in project_ids:
        wanted[tags.of_project(project_id)].append(project_id)
    found = redis.each([("MGET", *map(key, each)) for each in wanted.values()])
    return {
        project_id: value
        for ids, values in zip(wanted.values(), found, strict=True)
        for project_id, value in zip(ids, values, strict=True)
    }


@contextmanager
def changing(*project_ids: int) -> Iterator[None]:
    """Run the block in a database transaction that changes the contracts of the projects.

    Announce the change before the commit, so that it can still be refused if Redis does not answer. Announce it again
    after the commit.

    Raises:
        ChangeRefused: Redis does not answer.
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
    """Write a revision without `~`.

    If Redis fails now, the revision with `~` stays for up to 60 seconds. It matches no cached contract, and contracts
    that are read under it are not cached.
    """
    for project_id in project_ids:
        try:
            redis.client().set(key(project_id), secrets.token_hex(8))
        except (RedisError, OSError):
            continue
