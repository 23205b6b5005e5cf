"""Tag Redis keys with a user's ID, so that a Redis Cluster keeps all keys of this user together.

`admit.lua` uses the quota, the queue and the revision of a request in one step. In a cluster, a script can use only the
keys of one hash slot. The part of a key in braces, its hash tag, decides the slot. So in a cluster, each key that a
script uses together with other keys has the ID of the user who owns the project as its tag: `{7}:queue:stream:13`.

Without a cluster, no key has a tag. This includes a Redis behind Sentinel.
"""

from functools import lru_cache

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

NO_TAG = 0


@lru_cache(maxsize=1)
def is_cluster() -> bool:
    """Return whether REDIS_URL names a Redis Cluster."""
    return bool(settings.REDIS_IS_CLUSTER)


@receiver(setting_changed)
def _forget(**_: object) -> None:
    """Let `is_cluster` read the setting again. Only tests change this setting."""
    is_cluster.cache_clear()


def of_user(user_id: int) -> int:
    """Return the tag of the keys that belong to a user: the user's ID, or NO_TAG if Redis is not a cluster."""
    return user_id if is_cluster() else NO_TAG


def tagged(name: str, tag: int) -> str:
    """Return a key's name with its tag in front, or the name as it is for NO_TAG."""
    return f"{{{tag}}}:{name}" if tag else name
