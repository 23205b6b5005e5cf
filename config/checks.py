"""System checks. Each command of ours reports wrong settings. `check --deploy` also reports production risks."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  # Django's name for it
from redis.exceptions import RedisError

from config.common import redis
from config.common.cluster.key_tags import is_cluster
from config.common.env import SETTINGS_CHECKS, storage_is_directory
from config.common.sentinel import urls as sentinel

# ingest/queue/lua/admit.lua admits requests only while Redis uses less than this share of `maxmemory`.
_ADMISSION_SHARE = 0.8
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_THIS_MACHINE = (None, "", "localhost", "127.0.0.1", "::1")


@register(SETTINGS_CHECKS)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Return settings that contradict each other or that break the service."""
    found: list[CheckMessage] = []
    if len(settings.API_KEY_SECRET) < 32:
        found.append(
            Error(
                "API_KEY_SECRET is shorter than 32 characters.",
                hint="Set 50 random characters.",
                id="config.E001",
            )
        )
    if settings.BACKLOG_LIMIT_BYTES * min(1, settings.BACKLOG_SHARE_PER_PROJECT) < settings.MAX_BODY_BYTES:
        found.append(
            Error(
                "A project's share of BACKLOG_LIMIT_BYTES has no room for one body of MAX_BODY_BYTES.",
                hint="Raise BACKLOG_LIMIT_BYTES or BACKLOG_SHARE_PER_PROJECT, or lower MAX_BODY_BYTES.",
                id="config.E002",
            )
        )
    if settings.BODY_MEMORY_BYTES < 4 * settings.MAX_BODY_BYTES:
        found.append(
            Error(
                "BODY_MEMORY_BYTES is less than four bodies of MAX_BODY_BYTES.",
                hint="Raise BODY_MEMORY_BYTES. One project may use half of it, for a body and its compressed form.",
                id="config.E006",
            )
        )
    if settings.MAX_BATCH_RECORDS > 100_000:
        found.append(
            Error(
                "MAX_BATCH_RECORDS is above 100000: sorted by ID, the rows of a batch would lose their order.",
                hint="Set MAX_BATCH_RECORDS to at most 100000.",
                id="config.E003",
            )
        )
    if urlsplit(settings.REDIS_URL).scheme not in _SCHEMES:
        found.append(Error("REDIS_URL is not the URL of a Redis.", hint="Write redis://host:6379/0.", id="config.E004"))
    if settings.DRAIN_LEASE_SECONDS < 5:
        found.append(
            Warning(
                "DRAIN_LEASE_SECONDS is short: a second drain could start while the first still runs.",
                hint="Make it longer than any commit to the storage takes.",
                id="config.W001",
            )
        )
    return found


@register(Tags.security, deploy=True)
def check_site(**_: Any) -> list[CheckMessage]:
    """Return what makes the admin unsafe on a public network."""
    found: list[CheckMessage] = []
    if not settings.SECURE_SSL_REDIRECT:
        found.append(
            Warning(
                "HTTPS is not true: the admin's cookies and passwords are sent over plain HTTP.",
                hint="Put a TLS proxy in front, and set HTTPS=true.",
                id="config.W011",
            )
        )
    if settings.DEBUG:
        found.append(
            Warning("DEBUG is true: errors show settings and code.", hint="Set DEBUG=false.", id="config.W012")
        )
    for name, secrets in (
        ("SECRET_KEY", [settings.SECRET_KEY]),
        ("SECRET_KEY_FALLBACKS", settings.SECRET_KEY_FALLBACKS),
    ):
        if any(len(secret) < 50 or len(set(secret)) < 5 for secret in secrets):
            hint = f"Set {name} to 50 random characters or more."
            found.append(Warning(f"{name} can be guessed.", hint=hint, id="config.W013"))
    return found


@register(Tags.security, deploy=True)
def check_machines(**_: Any) -> list[CheckMessage]:
    """Warn of local data that other machines cannot reach. If Redis is remote, assume several machines."""
    is_here = not _has_replicas() and urlsplit(settings.REDIS_URL).hostname in _THIS_MACHINE
    if settings.REDIS_IS_EMBEDDED or is_here:
        return []
    found: list[CheckMessage] = []
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        found.append(
            Warning(
                "The database is a file on this machine, but Redis is on another machine.",
                hint="Set DATABASE_URL to a PostgreSQL that all machines can reach.",
                id="config.W002",
            )
        )
    if settings.SECRET_KEY_IS_EMBEDDED:
        found.append(
            Warning(
                "SECRET_KEY is not set: each machine makes its own, and refuses API keys that another machine issued.",
                hint="Set SECRET_KEY and API_KEY_SECRET to the same values on all machines.",
                id="config.W003",
            )
        )
    if storage_is_directory(settings.STORAGE_URL):
        found.append(
            Warning(
                "The tables are in a directory, but Redis is on another machine.",
                hint="Set STORAGE_URL to an object store, unless all machines share the directory.",
                id="config.W004",
            )
        )
    return found


@register(Tags.security, deploy=True)
def check_redis(**_: Any) -> list[CheckMessage]:
    """Warn if Redis does not answer, may lose accepted records, or has no suitable `maxmemory`.

    Most checks read INFO, because managed servers answer INFO even if they refuse CONFIG. In a cluster, each message
    names the primary that has the problem.
    """
    found: list[CheckMessage] = []
    try:
        for server in redis.primaries():
            problems = [*_redis_problems(server, server.info("everything"))]
            for each in problems if is_cluster() else []:
                each.obj = "{host}:{port}".format(**server.get_connection_kwargs())
            found += problems
    except (RedisError, OSError) as failure:
        return [
            Warning(
                f"Redis does not answer: {failure}",
                hint="Start Redis or correct REDIS_URL, then check again.",
                id="config.W005",
            )
        ]
    return found


def _redis_problems(server: Any, info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if info["cluster_enabled"] and not is_cluster():
        yield Error(
            "Redis runs as a cluster, but REDIS_URL names one server.",
            hint="Write redis+cluster://host:6379,host in REDIS_URL.",
            id="config.E005",
        )
    if not info["aof_enabled"]:
        yield Warning(
            "Redis has no append-only file: queued records are lost when Redis stops.",
            hint="Configure `appendonly yes` and `appendfsync always`.",
            id="config.W006",
        )
    elif (policy := _configured(server, "appendfsync")) not in ("always", None):
        yield Warning(
            f"Redis answers before it has written (`appendfsync {policy}`): a crash may lose accepted records.",
            hint="Configure `appendfsync always`.",
            id="config.W007",
        )
    yield from _replica_problems(server)
    if info["maxmemory_policy"] != "noeviction":
        yield Warning(
            f"Redis may delete queued records when its memory is full (`{info['maxmemory_policy']}`).",
            hint="Configure `maxmemory-policy noeviction`.",
            id="config.W008",
        )
    yield from _memory_problems(int(info["maxmemory"]))


def _memory_problems(limit: int) -> Iterator[CheckMessage]:
    """Warn of a `maxmemory` that is missing, or too small for the backlog."""
    if not limit:
        yield Warning(
            "Redis has no `maxmemory`: a long backlog can use all memory of its machine.",
            hint="Configure `maxmemory` below the machine's memory. At about 80 % of it, requests get 503.",
            id="config.W009",
        )
    elif limit * _ADMISSION_SHARE < settings.BACKLOG_LIMIT_BYTES:
        yield Warning(
            f"80 % of Redis's `maxmemory` ({limit} bytes) is less than BACKLOG_LIMIT_BYTES: requests get 503 before "
            "the backlog reaches its limit.",
            hint="Raise `maxmemory`, or lower BACKLOG_LIMIT_BYTES.",
            id="config.W010",
        )


def _has_replicas() -> bool:
    """Return whether REDIS_URL names a cluster or a Redis behind Sentinel. Their servers are on several machines."""
    return is_cluster() or sentinel.is_sentinel(settings.REDIS_URL)


def _replica_problems(server: Any) -> Iterator[CheckMessage]:
    """Warn of settings of replicas or a cluster that lose accepted records, or that make too many requests fail."""
    wanted = settings.REDIS_WAIT_REPLICAS
    least = _configured(server, "min-replicas-to-write")
    if wanted and least is not None and int(least) < wanted:
        yield Warning(
            f"REDIS_WAIT_REPLICAS is {wanted}, but Redis accepts writes with {least} replicas "
            "(`min-replicas-to-write`): while replicas are missing, requests are queued, but answered with 503 (their "
            "outcome is unknown).",
            hint=f"Configure `min-replicas-to-write {wanted}`. Redis then refuses them before it queues them.",
            id="config.W014",
        )
    if is_cluster() and _configured(server, "cluster-require-full-coverage") == "yes":
        yield Warning(
            "While one primary of the cluster is missing, the other primaries refuse all requests, too.",
            hint="Configure `cluster-require-full-coverage no`.",
            id="config.W016",
        )
    if not wanted and _has_replicas():
        yield Warning(
            "REDIS_WAIT_REPLICAS is 0: a failover may lose records that were accepted in the moments before it.",
            hint="Set REDIS_WAIT_REPLICAS=1, and configure `min-replicas-to-write 1`.",
            id="config.W015",
        )


def _configured(server: Any, name: str) -> str | None:
    """Return a setting of the server, or None if the server does not report it: some managed servers do not."""
    try:
        value: str | None = server.config_get(name).get(name)
    except RedisError:
        return None
    return value
