"""Move the data of one server, or of a server behind Sentinel, to the cluster of REDIS_URL.

The move only reads the old server. So until the service starts on the cluster, it can still continue on the old server.

A mark in the cluster (`installation.MOVE`) says how far the move has come:

    (none)      nothing was moved. The cluster has no records, or only records that it accepted itself
    copying     the data is being copied. Another run deletes the data that the first run has copied, and begins again
    copied …    all data is in the cluster. For one user after the other, the move writes the keys that let the service
                use the data. The rest of the mark are figures of the old server. They show whether the service has used
                the old server since the copy
    done        the service may use the cluster. Nothing is moved again, because the cluster may have newer data

Until all is copied, no user's data has a version or a generation. So each process looks at the mark before it uses
the data (`installation.check`), and refuses to work.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from django.conf import settings
from django.db import OperationalError, transaction
from redis import Redis
from redis.connection import DefaultParser
from redis.exceptions import ResponseError

from config.common import redis
from config.common.cluster.key_tags import NO_TAG, is_cluster, tagged
from config.common.cluster.urls import is_cluster as names_cluster
from config.common.errors import Refused
from config.common.sentinel.pool import SentinelConnectionFactory
from config.common.sentinel.urls import check as check_sentinel
from config.common.sentinel.urls import is_sentinel
from datasets import installation, tags
from datasets.installation import COPIED, COPYING, CURRENT_VERSION, DONE, MOVE
from datasets.models import Installation
from ingest.monitoring import heartbeat
from ingest.moving.copying import Copied, copy_keys
from ingest.moving.names import Names
from ingest.queue import redis_keys
from quotas import counters
from quotas import services as quotas

_KEYS_AT_ONCE = 1000


class MoveRefused(Refused):
    """The data cannot be moved now."""


def client_of(url: str) -> Any:
    """Return a client of the old server. Raises MoveRefused, ValueError or ImproperlyConfigured if the URL is wrong."""
    if names_cluster(url):
        raise MoveRefused("--from names a cluster. It must be the URL of the one server, or of its sentinels.")
    default: Any = settings.CACHES["default"]
    arguments = {**default["OPTIONS"]["CONNECTION_POOL_KWARGS"], "client_name": None}
    if is_sentinel(url):
        check_sentinel("--from", url)
        factory = SentinelConnectionFactory({"CONNECTION_POOL_KWARGS": arguments})
        return Redis(connection_pool=factory.get_connection_pool({"url": url, "parser_class": DefaultParser}))
    return Redis.from_url(url, **arguments)


def move(old: Any, note: Callable[[Copied], None]) -> Copied:
    """Move the data. If the process dies during the move, call this function again.

    Args:
        old: A client of the old server.
        note: Called after each batch of keys, with the numbers so far.

    Raises:
        MoveRefused: The data cannot be moved, or a process of the service runs. The text says what to do.
    """
    if not is_cluster():
        raise MoveRefused("REDIS_URL must name the cluster, like redis+cluster://host,host.")
    mark = redis.client().get(MOVE) or b""
    if mark == DONE:
        raise MoveRefused("The data was moved before, and the service may have used it since. Nothing was changed.")
    _require_ours(old)
    _require_stopped(old)
    if mark.startswith(COPIED):
        copied = Copied()
        if mark != _copied(old):
            raise MoveRefused(
                "The service has used the old server since its data was copied. To copy it again, run FLUSHALL on each "
                "primary of the cluster, and then this command."
            )
    else:
        with _alone():
            copied = _copy(old, note)
    _release(old.get(installation.GENERATION))
    if dirty := _without_project(old):
        quotas.flush(only=dirty)
    _wait_for_replicas()
    redis.client().set(MOVE, DONE)
    return copied


@contextmanager
def _alone() -> Iterator[None]:
    """Lock the copying against another run. The database ends the lock if this process dies."""
    with ExitStack() as lock:
        try:
            lock.enter_context(transaction.atomic())  # SQLite locks here, other databases at the next line
            Installation.objects.select_for_update(nowait=True).get(pk=1)
        except OperationalError as locked:
            raise MoveRefused("Another run of this command copies the data now. Wait until it has ended.") from locked
        yield


def _copy(old: Any, note: Callable[[Copied], None]) -> Copied:
    """Copy all data. The service cannot use it until `_release` has written the other keys."""
    _require_unused()
    after = _copied(old)
    redis.client().set(MOVE, COPYING)
    names = Names()
    _clear(names)
    copied = copy_keys(old, names, note)
    _write_totals(old, names)
    if copied.idempotency_ms > 0:
        redis.client().set(redis_keys.BEFORE_MOVE, "", px=copied.idempotency_ms)
    _require_stopped(old)
    if _copied(old) != after:
        raise MoveRefused(
            "The data of the old server has changed during the move, so a process of the service still uses it. Stop "
            "all processes, and run the command again."
        )
    _wait_for_replicas()
    redis.client().set(MOVE, after)
    return copied


def _require_ours(old: Any) -> None:
    owner, version = old.mget(installation.INSTALLATION, installation.DATA_VERSION)
    if owner is None:
        raise MoveRefused("The Redis of --from has no data of this service. Check its address and database number.")
    installation.check_owner(owner)
    if int(version or 0) != CURRENT_VERSION:
        raise MoveRefused(
            f"The data of the old server has version {int(version or 0)}, and this release needs version "
            f"{CURRENT_VERSION}. Set REDIS_URL to the old server, and run `manage.py migrate_queue` first."
        )


def _require_unused() -> None:
    in_use = tags.in_use()
    found = redis.each([("GET", tagged(installation.GENERATION, tag)) for tag in in_use])
    if used := [tag for tag, generation in zip(in_use, found, strict=True) if generation is not None]:
        raise MoveRefused(
            f"The service has already accepted records on the cluster, for {len(used)} users. The move would overwrite "
            "them. To give them up, run FLUSHALL on each primary of the cluster."
        )


def _require_stopped(old: Any) -> None:
    """Raise MoveRefused if a process of the service runs, has ended lately, or is connected to the old server."""
    found = [name for name in heartbeat.PROCESSES if old.exists(redis_keys.heartbeat(name))]
    found += [name for name, last in heartbeat.read().items() if last and name in heartbeat.PROCESSES]
    if found:
        raise MoveRefused(
            f"A process of the service runs, or has ended less than {heartbeat.STALE_SECONDS} seconds ago: "
            f"{', '.join(sorted({*found}))}. Stop all processes, wait, and run the command again."
        )
    if addresses := _connected(old):
        raise MoveRefused(
            f"A process of the service is still connected to the old server: {', '.join(addresses)}. Stop all "
            "processes, and run the command again."
        )


def _connected(old: Any) -> list[str]:
    """Return the addresses of the service's connections to the old server. Return none if the server hides them."""
    try:
        clients = old.client_list()
    except ResponseError:
        return []
    database = str(old.connection_pool.connection_kwargs.get("db", 0))
    return [each["addr"] for each in clients if each["name"] == settings.REDIS_CLIENT_NAME and each["db"] == database]


def _copied(old: Any) -> bytes:
    """Return the mark for a copy of the data that the old server has now."""
    figures = old.mget(installation.GENERATION, redis_keys.TOTAL_ACCEPTED, redis_keys.TOTAL_BYTES)
    return b" ".join([COPIED, *(figure or b"-" for figure in figures)])


def _clear(names: Names) -> None:
    """Delete the data that an earlier run has copied, and the keys that the service writes before its first record."""
    for primary in redis.primaries():
        cursor = None
        while cursor != 0:
            cursor, found = primary.scan(cursor or 0, count=_KEYS_AT_ONCE)
            redis.each([("UNLINK", key) for key in found if names.is_ours_in_cluster(key)])


def _write_totals(old: Any, names: Names) -> None:
    """Write the totals of each user's datasets. One server has only the totals of all datasets."""
    dataset_ids = list(names.datasets)
    for total in (redis_keys.TOTAL_BYTES, redis_keys.TOTAL_ACCEPTED):
        sums = dict.fromkeys(tags.in_use(), 0)
        for at in range(0, len(dataset_ids), _KEYS_AT_ONCE):
            some = dataset_ids[at : at + _KEYS_AT_ONCE]
            for dataset_id, value in zip(some, old.mget([f"{total}:{each}" for each in some]), strict=True):
                sums[names.datasets[dataset_id]] += int(value or 0)
        redis.each([("SET", tagged(total, tag), value) for tag, value in sums.items() if value])


def _release(generation: bytes | None) -> None:
    """Let the service use the data of each user."""
    values: dict[str, str | int] = {
        installation.INSTALLATION: installation.our_id(),
        installation.DATA_VERSION: CURRENT_VERSION,
    }
    if generation is not None:
        values[installation.GENERATION] = generation.decode()
    redis.each(
        [
            ("MSET", *chain.from_iterable((tagged(name, tag), value) for name, value in values.items()))
            for tag in tags.in_use()
        ]
    )


def _without_project(old: Any) -> set[int]:
    """Return the users with unflushed usage who own no project. In a cluster, later flushes do not look at them."""
    members = map(counters.MEMBER.fullmatch, old.smembers(counters.dirty_key(NO_TAG)))
    found = {int(member[1]) for member in members if member}
    return found - {*tags.in_use()}


def _wait_for_replicas() -> None:
    """Wait until enough replicas (REDIS_WAIT_REPLICAS) have the data of each primary. Raises TooFewReplicas."""
    if not settings.REDIS_WAIT_REPLICAS:
        return
    waited = set()
    for tag in range(1, 1000):
        node = redis.client().node_of(tagged("replicated", tag))
        if node.name not in waited:
            waited.add(node.name)
            redis.require_replicas(tag=tag)
