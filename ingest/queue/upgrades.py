"""Upgrade the Redis data of an earlier release to the present version.

Each step is safe to repeat: if a step dies, run it again. No other process of the service may run at the same time. If
the earlier release cannot read the data after a step, say so in CHANGELOG.md.
"""

import math

import msgspec
from django.conf import settings

from config.common import clock, redis
from config.common.cluster.key_tags import NO_TAG, is_cluster
from datasets import installation
from datasets.installation import CURRENT_VERSION, DATA_VERSION
from datasets.models import Dataset
from ingest.queue import redis_keys

_AT_ONCE = 100
# Keys of earlier versions.
_V0_COUNTERS = "queue:counters:{}"
_V1_PENDING = "queue:pending"
_V1_IDEMPOTENCY = b"queue:idempotency:"
_V1_SLOT = b"queue:slot:"
_V1_HEARTBEAT = "worker:heartbeat"


def upgrade() -> tuple[int, int]:
    """Upgrade the data. Return its version before and after the upgrade.

    Raises:
        AnotherVersion: A newer release has written the data.
        AnotherInstallation: The data belongs to another database.
    """
    if is_cluster():  # clusters never had an earlier version. A future upgrade must visit the keys of each tag
        installation.check()
        return CURRENT_VERSION, CURRENT_VERSION
    installation.check_owner(installation.mark_redis(NO_TAG))
    client, before = redis.client(), version()
    if before > CURRENT_VERSION:
        installation.check()  # raises AnotherVersion
    for number in range(before, CURRENT_VERSION):
        _STEPS[number]()
        _recount()
        client.set(DATA_VERSION, number + 1)
    client.set(DATA_VERSION, CURRENT_VERSION, nx=True)
    return before, CURRENT_VERSION


def check_version() -> tuple[int, int]:
    """Return the data's version, and the version that `upgrade` would give it. Raises what `upgrade` raises."""
    if is_cluster():
        installation.check()
        return CURRENT_VERSION, CURRENT_VERSION
    owner = redis.client().get(installation.INSTALLATION)
    if owner is not None:
        installation.check_owner(owner)
    found = version()
    if found > CURRENT_VERSION:
        installation.check()  # raises AnotherVersion
    return found, CURRENT_VERSION


def version() -> int:
    """Return the version of the data. The first releases wrote no version, but their keys show which version it is."""
    client = redis.client()
    found = client.get(DATA_VERSION)
    if found is not None:
        return int(found)
    hashes = [_V0_COUNTERS.format(dataset_id) for dataset_id, _ in _datasets()]
    if hashes and client.exists(*hashes):
        return 0
    return 1 if client.exists(redis_keys.GENERATION) else CURRENT_VERSION


def _one_key_for_each_counter() -> None:
    """Upgrade to version 1: a dataset's counters are keys, and no longer fields of a hash.

    If the old and the new release have both used the data without this step, each has counted a part of the accepted
    records. So the step adds both counts.
    """
    for dataset_id, _ in _datasets():
        counters = redis.client().hgetall(_V0_COUNTERS.format(dataset_id))
        if counters:
            with redis.client().pipeline(transaction=True) as step:
                step.incrby(redis_keys.accepted(dataset_id), int(counters.get(b"accepted", 0)))
                step.delete(_V0_COUNTERS.format(dataset_id))
                step.execute()


def _projects_and_digests() -> None:
    """Upgrade to version 2: each project gets its own set of pending datasets.

    The name of an Idempotency-Key's Redis key becomes a digest. The digest of the body is cut to 8 bytes.

    The step deletes all slots, because no process runs that could send an admission again.
    """
    client, now, projects = redis.client(), clock.milliseconds(), dict(_datasets())
    for dataset_id, project_id in projects.items():
        if client.xlen(redis_keys.stream(dataset_id)):
            with client.pipeline(transaction=True) as step:
                step.zadd(redis_keys.pending(project_id), {str(dataset_id): now}, nx=True)
                step.zadd(redis_keys.TURNS, {str(project_id): now}, nx=True)
                step.execute()
    for key in client.scan_iter(count=1000):
        if key.startswith(_V1_IDEMPOTENCY):
            _digest(key, projects)
        elif key.startswith(_V1_SLOT):
            client.delete(key)
    client.delete(_V1_PENDING, _V1_HEARTBEAT, redis_keys.SLOTS)


def _digest(key: bytes, projects: dict[int, int]) -> None:
    """Convert an Idempotency-Key of version 1 to version 2. It keeps its time to live."""
    client = redis.client()
    written, _, chosen = key.removeprefix(_V1_IDEMPOTENCY).partition(b":")
    dataset_id = int(written)
    value, life = client.get(key), client.pttl(key)
    if value is None or life <= 0 or dataset_id not in projects:
        client.delete(key)
        return
    digest, generation, stream_id, count = msgspec.msgpack.decode(value, type=tuple[str, str, str, int])
    step_seconds = math.ceil(settings.IDEMPOTENCY_TTL_SECONDS / 24)
    ends = math.ceil((clock.seconds() + life / 1000) / step_seconds) * step_seconds
    known = redis_keys.known_keys(projects[dataset_id])
    first = bytes.fromhex(digest)[:8] + f"{generation} {stream_id} {count}".encode()
    with client.pipeline(transaction=True) as step:
        step.set(redis_keys.idempotency(dataset_id, chosen.decode()), first, px=life)
        step.hincrby(known, str(ends), 1)
        step.expire(known, settings.IDEMPOTENCY_TTL_SECONDS + step_seconds)
        step.delete(key)
        step.execute()


def _recount() -> None:
    """Set the counters to what is queued. If a release ran before its upgrade step, they may be wrong or negative."""
    client, total = redis.client(), 0
    for dataset_id, _ in _datasets():
        records = size = 0
        last = "-"
        while found := client.xrange(redis_keys.stream(dataset_id), last, "+", count=_AT_ONCE):
            records += sum(int(fields.get(b"n", 0)) for _, fields in found)
            size += sum(len(fields.get(b"b", b"")) for _, fields in found)
            last = f"({found[-1][0].decode()}"
        total += size
        if records or size or client.exists(redis_keys.queued(dataset_id)):
            client.mset({redis_keys.queued(dataset_id): records, redis_keys.queued_bytes(dataset_id): size})
    client.set(redis_keys.TOTAL_BYTES, total)


def _datasets() -> list[tuple[int, int]]:
    """Return the IDs of each dataset and its project."""
    return list(Dataset.objects.order_by("pk").values_list("pk", "project_id"))


# The step at index n upgrades version n to n + 1.
_STEPS = (_one_key_for_each_counter, _projects_and_digests)
