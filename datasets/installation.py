"""Whose the data in Redis is, and of which version: nothing is admitted, drained or flushed unless both are right.

Two installations on one Redis would store each other's records, because both number their datasets from 1. So the
database has an id, and Redis has the id of the database that its data belongs to. And a release that keeps data in
another shape would misread what an earlier one has left. So Redis has the version of its data, which
`manage.py migrate_queue` (ingest/queue/upgrades.py) brings up to date. A Redis without data takes the id of the first
installation that looks, and the version of its release.

Redis keys
    installation    the id
    data_version    the version
"""

from functools import lru_cache

from django.apps import apps

from config.common import redis
from config.common.errors import Refused

INSTALLATION = "installation"
DATA_VERSION = "data_version"
GENERATION = "queue:generation"  # see ingest.queue.redis_keys; set with the first record
# The version that this release reads and writes. A change of it takes a step in ingest/queue/upgrades.py.
CURRENT_VERSION = 2


class UnusableData(Refused):
    """This process must not touch the data in Redis."""


class AnotherInstallation(UnusableData):
    """The data in Redis belongs to another database."""


class AnotherVersion(UnusableData):
    """The data in Redis has another version than this release reads and writes."""


@lru_cache(maxsize=1)
def ours() -> str:
    """Return this database's id, made once. Raises what the database raises."""
    # Celery imports this module before the models are loaded.
    found, _ = apps.get_model("datasets", "Installation").objects.get_or_create(pk=1)
    return str(found.uuid)


def check() -> None:
    """Return if the data in Redis is ours and current. Raises UnusableData, and what Redis and the database raise."""
    client = redis.client()
    owner, version, generation = client.mget(INSTALLATION, DATA_VERSION, GENERATION)
    if owner is None or (version is None and generation is None):
        owner = claim()
    check_owner(owner)
    if version is None and generation is None:
        client.set(DATA_VERSION, CURRENT_VERSION, nx=True)
        version = client.get(DATA_VERSION)
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


def claim() -> bytes | None:
    """Make Redis ours if it has no id; return the id that it has then."""
    client = redis.client()
    client.set(INSTALLATION, ours(), nx=True)
    owner: bytes | None = client.get(INSTALLATION)
    return owner


def check_owner(owner: bytes | None) -> None:
    """Raise AnotherInstallation if this is not our id."""
    if owner is None or owner.decode() != ours():
        raise AnotherInstallation(
            f"The data in this Redis belongs to another installation ({(owner or b'').decode()}; this database is "
            f"{ours()}). Set REDIS_URL to a Redis, or to a database number of it, that no other installation uses."
        )
