"""Which installation the data in Redis belongs to.

Two installations on one Redis would store each other's records, because both number their datasets from 1. So the
database has an id, Redis has the id of the database that its data belongs to, and nothing is admitted, drained or
flushed unless they are equal. A Redis without data takes the id of the first installation that looks.

Redis keys
    installation    the id
"""

from functools import lru_cache

from django.apps import apps

from config import redis
from config.errors import Refused

INSTALLATION = "installation"


class AnotherInstallation(Refused):
    """The data in Redis belongs to another database."""


@lru_cache(maxsize=1)
def ours() -> str:
    """Return this database's id, made once. Raises what the database raises."""
    # Celery imports this module before the models are loaded.
    found, _ = apps.get_model("datasets", "Installation").objects.get_or_create(pk=1)
    return str(found.uuid)


def check() -> None:
    """Return if the data in Redis is ours. Raises AnotherInstallation, and what Redis and the database raise."""
    client = redis.client()
    found = client.get(INSTALLATION)
    if found is None:
        client.set(INSTALLATION, ours(), nx=True)
        found = client.get(INSTALLATION)
    if found is None or found.decode() != ours():
        raise AnotherInstallation(
            f"The data in this Redis belongs to another installation ({(found or b'').decode()}; this database is "
            f"{ours()}). Set REDIS_URL to a Redis, or to a database number of it, that no other installation uses."
        )
