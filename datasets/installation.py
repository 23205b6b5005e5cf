"""Check that the data in Redis belongs to this installation and has this release's version.

If a check fails, nothing is admitted, drained or flushed.

Two installations on one Redis would store each other's records, because both number their datasets from 1. So the
database has an ID, and Redis keeps the ID of the database that its data belongs to.

A release that keeps data in another format would misread the data of an earlier release. So Redis keeps the version of
its data, which `manage.py migrate_queue` (ingest/queue/upgrades.py) brings up to date.

A Redis without data gets the ID of the first installation that checks it, and the data version of this installation's
release. In a cluster, the keys of each user have an ID and a version of their own.

Redis keys
    installation    the ID
    data_version    the version
    move            only in a cluster, one key for all users: how far `manage.py move_to_cluster` has come with the data
                    of one server (ingest/moving/move.py)
"""

from collections.abc import Iterable
from functools import lru_cache

from django.apps import apps

from config.common import redis
from config.common.cluster.key_tags import is_cluster, tagged
from config.common.errors import Refused
from datasets import tags

INSTALLATION = "installation"
DATA_VERSION = "data_version"
GENERATION = "queue:generation"  # see ingest.queue.redis_keys; the first record sets it
MOVE = "move"
COPYING, COPIED, DONE = b"copying", b"copied", b"done"
# The version that this release reads and writes. A new version needs a step in ingest/queue/upgrades.py.
CURRENT_VERSION = 2


class UnusableData(Refused):
    """This process must not touch the data in Redis."""


class AnotherInstallation(UnusableData):
    """The data in Redis belongs to another database."""


class UnfinishedMove(UnusableData):
    """The data of one server was moved to this cluster only in part."""


class AnotherVersion(UnusableData):
    """The version of the data in Redis is not the one that this release reads and writes."""


@lru_cache(maxsize=1)
def our_id() -> str:
    """Return this database's ID. The first call creates it. Raises the errors of the database."""
    # Celery imports this module before the models are loaded.
    found, _ = apps.get_model("datasets", "Installation").objects.get_or_create(pk=1)
    return str(found.uuid)


def check(only: Iterable[int] | None = None) -> None:
    """Check that the data in Redis is ours and has the current version.

    Args:
        only: The tags of the keys to check. By default all that are in use.

    Raises:
        AnotherInstallation: The data belongs to another database.
        AnotherVersion: The data has another version.
        UnfinishedMove: The data was moved only in part.
        redis.exceptions.RedisError: Redis does not answer.
        django.db.Error: The database does not answer.
    """
    wanted = list(tags.in_use() if only is None else only)
    names = (INSTALLATION, DATA_VERSION, GENERATION)
    found = redis.each([("MGET", *(tagged(name, tag) for name in names)) for tag in wanted])
    for tag, (owner, version, generation) in zip(wanted, found, strict=True):
        _check(tag, owner, version, generation)


def _check(tag: int, owner: bytes | None, version: bytes | None, generation: bytes | None) -> None:
    if owner is None or (version is None and generation is None):
        _require_whole()
        owner = mark_redis(tag)
    check_owner(owner)
    if version is None and generation is None:
        key, client = tagged(DATA_VERSION, tag), redis.client()
        client.set(key, CURRENT_VERSION, nx=True)
        version = client.get(key)
    found = int(version or 0)
    if found < CURRENT_VERSION:
        raise AnotherVersion(
            "The data in Redis was written by an earlier release. Stop all processes of the service, and run "
            "`manage.py migrate_queue`."
        )
    if found > CURRENT_VERSION:
        raise AnotherVersion(
            f"The data in Redis was written by a newer release (version {found}; this one knows {CURRENT_VERSION}). "
            "Start that release or a later one."
        )


def _require_whole() -> None:
    """Raise UnfinishedMove if a move has begun and has not ended."""
    if is_cluster() and redis.client().get(MOVE) not in (None, DONE):
        raise UnfinishedMove(
            "This cluster has only a part of the data of the old server, because a move has not ended. Run `manage.py "
            "move_to_cluster` again."
        )


def mark_redis(tag: int) -> bytes | None:
    """Write the ID of our installation to the key with this tag, unless it has a value. Return its value now."""
    client, key = redis.client(), tagged(INSTALLATION, tag)
    client.set(key, our_id(), nx=True)
    owner: bytes | None = client.get(key)
    return owner


def check_owner(owner: bytes | None) -> None:
    """Raise AnotherInstallation if this is not our ID."""
    if owner is None or owner.decode() != our_id():
        raise AnotherInstallation(
            f"The data in this Redis belongs to another installation ({(owner or b'').decode()}; this database is "
            f"{our_id()}). Set REDIS_URL to a Redis or a Redis database number that no other installation uses."
        )
