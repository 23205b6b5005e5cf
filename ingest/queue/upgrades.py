"""Bring the data in Redis from the shape that an earlier release has left to the present one.

Each step is safe to repeat: one that dies is run again. No other process of the service may run meanwhile. A step that
makes data unreadable for the release before needs a line in CHANGELOG.md.
"""

import math

import msgspec
from django.conf import settings

from config.common import clock, redis
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
    """Upgrade the data; return its version before and now.

    Raises AnotherVersion if a newer release has written it, AnotherInstallation if it is not ours.
    """
    installation.check_owner(installation.claim())
    client, before = redis.client(), version()
    if before > CURRENT_VERSION:
        installation.check()  # which says so
    for number in range(before, CURRENT_VERSION):
        _STEPS[number]()
        _recount()
        client.set(DATA_VERSION, number + 1)
    client.set(DATA_VERSION, CURRENT_VERSION, nx=True)
    return before, CURRENT_VERSION


def version() -> int:
    """Return the data's version. The first versions did not write theirs: it is told from the keys."""
    client = redis.client()
    found = client.get(DATA_VERSION)
    if found is not None:
        return int(found)
    hashes = [_V0_COUNTERS.format(dataset_id) for dataset_id, _ in _datasets()]
    if hashes and client.exists(*hashes):
        return 0
    return 1 if client.exists(redis_keys.GENERATION) else CURRENT_VERSION


def _one_key_for_each_counter() -> None:
    """Version 1: a dataset's counters are keys, no longer fields of a hash.

    Of data that was used by both without a step between, each has counted a part of what was accepted.
    """
    for dataset_id, _ in _datasets():
        counters = redis.client().hgetall(_V0_COUNTERS.format(dataset_id))
        if counters:
            with redis.client().pipeline(transaction=True) as step:
                step.incrby(redis_keys.accepted(dataset_id), int(counters.get(b"accepted", 0)))
                step.delete(_V0_COUNTERS.format(dataset_id))
                step.execute()


def _projects_and_digests() -> None:
    """Version 2: pending datasets are kept by project; an Idempotency-Key and its body are kept as digests.

    Slots are forgotten: no process that could send a request again is left.
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
    """Keep an Idempotency-Key of version 1 as version 2 does, for the rest of its life."""
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
    """Count anew what is queued: an upgrade without its step may have left counters that are wrong, or negative."""
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
    """Return each dataset's id, and its project's."""
    return list(Dataset.objects.order_by("pk").values_list("pk", "project_id"))


# The step from version n to n + 1 is the nth.
_STEPS = (_one_key_for_each_counter, _projects_and_digests)
