"""The names of Redis keys on one server, and the names of the same keys in a cluster.

The modules that make the names say what each key holds: `ingest.queue.redis_keys`, `quotas.counters`,
`datasets.contracts.revisions`, `datasets.contracts.old_form`, `datasets.queries.figures` and `datasets.installation`.
"""

import re
from collections.abc import Callable, Mapping

from django.contrib.auth import get_user_model

from config.common.cluster.key_tags import tagged
from datasets import installation
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from ingest.queue import redis_keys

# Keys that end in the ID of an object, such as a dataset. In a cluster, they carry the tag of the object's owner.
_OF_DATASETS = (
    *("queue:stream", "queue:accepted", "queue:queued", "queue:bytes", "queue:trimmed", "queue:replayed"),
    "stats:stored",
)
_OF_PROJECTS = ("queue:pending", "queue:keys", "stats:refused", "refusals:log", "revision:project")
_OF_API_KEYS = ("queue:rate",)
_OF_VERSIONS = ("grace",)
_QUOTA = re.compile(rb"(quota_limit|usage_total|usage_delta):datasets:([0-9]+)(:[0-9-]+)?")
# Keys whose members belong to several users. In a cluster, each user has a separate key with their own members.
_DIRTY = b"usage_dirty:datasets"
_TURNS = redis_keys.TURNS.encode()
_REFUSAL_LOGS = redis_keys.REFUSAL_LOGS.encode()
_LAST_USED = redis_keys.KEYS_LAST_USED.encode()
# Keys whose name in a cluster is the same as on one server. `:1:` is Django's cache. After `idem:` comes a digest,
# which does not show the owner: see `ingest.queue.seeding`.
_SAME = {redis_keys.REFUSED.encode(), redis_keys.UNTIDY.encode(), redis_keys.SWEPT.encode(), b"queries"}
_SAME_BEGINNINGS = (redis_keys.IDEMPOTENCY.encode(), b"slow_queries:", b":1:")
# Keys that are not copied: the move itself writes them for each user, or only running processes need them.
_LEFT = {
    *(redis_keys.GENERATION.encode(), installation.INSTALLATION.encode(), installation.DATA_VERSION.encode()),
    *(redis_keys.TOTAL_BYTES.encode(), redis_keys.TOTAL_ACCEPTED.encode()),
    *(redis_keys.SLOTS.encode(), redis_keys.ROOM.encode(), b"replicated"),
}
_LEFT_BEGINNINGS = (b"queue:slot:", b"queue:lock:", b"queue:deaths:", b"sign:", b"dataset-ingest:")
_TAG = re.compile(rb"\{[0-9]+\}:")
_TAGGED_QUOTA = re.compile(rb"(quota_limit|usage_total|usage_delta):datasets:\{[0-9]+\}(:[0-9-]+)?")


class Names:
    """Finds the owner of each key. It reads the owners from the database once, when it is created."""

    def __init__(self) -> None:
        self.datasets = dict(Dataset.objects.values_list("pk", "project__owner_id"))
        projects = dict(Project.objects.values_list("pk", "owner_id"))
        api_keys = dict(ApiKey.objects.values_list("pk", "project__owner_id"))
        versions = dict(SchemaVersion.objects.values_list("pk", "dataset__project__owner_id"))
        users = {pk: pk for pk in get_user_model().objects.values_list("pk", flat=True)}
        self._users = users
        self._owners: dict[bytes, Mapping[int, int]] = {
            beginning.encode(): owners
            for beginnings, owners in (
                (_OF_DATASETS, self.datasets),
                (_OF_PROJECTS, projects),
                (_OF_API_KEYS, api_keys),
                (_OF_VERSIONS, versions),
            )
            for beginning in beginnings
        }
        self._of_members: dict[bytes, Mapping[int, int]] = {
            _DIRTY: users,
            _TURNS: projects,
            _REFUSAL_LOGS: projects,
            _LAST_USED: api_keys,
        }

    def in_cluster(self, key: bytes) -> bytes | None:
        """Return the name of a key in the cluster. Return None if the key is not moved, or is split between users."""
        if key in _SAME or key.startswith(_SAME_BEGINNINGS):
            return key
        if quota := _QUOTA.fullmatch(key):
            name, user_id, rest = quota.groups()
            return b"%s:datasets:{%s}%s" % (name, user_id, rest or b"") if int(user_id) in self._users else None
        beginning, _, number = key.rpartition(b":")
        if beginning not in self._owners or not number.isdigit():
            return None
        owner = self._owners[beginning].get(int(number))
        return tagged(key.decode(), owner).encode() if owner else None

    def for_members(self, key: bytes) -> Callable[[bytes], bytes | None] | None:
        """Return a function that maps a member of this key to the name of the key that gets the member in the cluster.

        The function returns None for a member whose owner no longer exists. If all members of the key belong to one
        user, return None instead of a function.
        """
        owners = self._of_members.get(key)
        if owners is None:
            return None

        def name_for(member: bytes) -> bytes | None:
            number = member.partition(b":")[0]
            owner = owners.get(int(number)) if number.isdigit() else None
            return tagged(key.decode(), owner).encode() if owner else None

        return name_for

    def is_ours(self, key: bytes) -> bool:
        """Return whether the service gives this name to a key if Redis is a single server."""
        beginning, _, number = key.rpartition(b":")
        return (
            key in _SAME | _LEFT | self._of_members.keys()
            or key.startswith(_SAME_BEGINNINGS + _LEFT_BEGINNINGS)
            or _QUOTA.fullmatch(key) is not None
            or (beginning in self._owners and number.isdigit())
        )

    def is_ours_in_cluster(self, key: bytes) -> bool:
        """Return whether this is the name of a key that the service or a move writes in a cluster."""
        tag = _TAG.match(key)
        return bool(_TAGGED_QUOTA.fullmatch(key)) or self.is_ours(key[tag.end() :] if tag else key)
