"""Every environment variable that the service reads: its type, its bounds and its default.

`config.settings` makes Django's settings from the values. A test compares the table in docs/settings.md with this file.
AWS_* variables are missing here: delta-rs itself reads the credentials of an object store.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from django.core.exceptions import ImproperlyConfigured
from msgspec import Meta
from msgspec.inspect import BoolType, FloatType, IntType, LiteralType, type_info

from config.common.cluster import urls as cluster
from config.common.env import BASE_DIR, data_directory, database, machine_memory, storage_location
from config.common.sentinel import urls as sentinel

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0.05)]
NotNegativeSeconds = Annotated[float, Meta(ge=0)]
Timeout = Annotated[float, Meta(ge=0.01)]
LongSeconds = Annotated[float, Meta(ge=1)]


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The values of all variables. If a value is empty, `config.settings` computes the default."""

    # -- where things are

    DATA_DIR: str = str(BASE_DIR / "var")
    DATABASE_URL: str = ""
    REDIS_URL: str = ""
    # `maxmemory` of the embedded Redis. Admission stops at about 80 % of it, whatever the backlog limits are.
    REDIS_MAXMEMORY_BYTES: Positive = msgspec.field(default_factory=lambda: machine_memory() // 2)
    CELERY_BROKER_URL: str = ""
    # A directory, or the URL of an object store (s3://bucket/prefix).
    STORAGE_URL: str = ""

    # -- secrets

    SECRET_KEY: str = ""
    SECRET_KEY_FALLBACKS: list[str] = []
    # API keys have a secret of their own, so that an operator can change it without ending sessions.
    API_KEY_SECRET: str = ""
    API_KEY_SECRET_FALLBACKS: list[str] = []

    # -- the admin

    DEBUG: bool = False
    ALLOWED_HOSTS: list[str] = msgspec.field(default_factory=lambda: ["localhost", "127.0.0.1", "[::1]"])
    CSRF_TRUSTED_ORIGINS: list[str] = []
    # The number of proxies in front that add an address to X-Forwarded-For. Without a proxy, clients can forge that
    # header.
    PROXY_COUNT: NotNegative = 0
    LOGIN_FAILURE_LIMIT: Positive = 5
    LOGIN_LOCKOUT_MINUTES: Positive = 15
    # True if a proxy in front of the service receives the requests over HTTPS.
    HTTPS: bool = False

    # -- `manage.py up`

    HOST: str = "127.0.0.1"
    PORT: Positive = 8000
    WEB_WORKERS: Positive = 2
    CELERY_WORKERS: Positive = 1

    # -- what a request may carry

    # The number of threads in each web process that serve the admin. The API runs in the event loop.
    ADMIN_THREADS: Positive = 8
    # Memory of each web process for large bodies, and for bodies that arrive in pieces (see ingest.validation.room).
    BODY_MEMORY_BYTES: Positive = 256 * 1024 * 1024
    # A client gets 408 if it sends nothing of its body for this long, before the first byte or between two parts.
    BODY_SILENCE_SECONDS: Seconds = 60.0
    # On Linux, a client that reads nothing of its answer for this long loses its connection. Until then, it may hold
    # memory or one of the permits for exports.
    SEND_TIMEOUT_SECONDS: LongSeconds = 60.0
    MAX_BODY_BYTES: Positive = 10 * 1024 * 1024
    MAX_BATCH_RECORDS: Positive = 10_000
    # Requests get 503 if a dataset, or all datasets together, would queue more than this number of bytes.
    BACKLOG_LIMIT_BYTES_PER_DATASET: Positive = 2 * 1024**3
    BACKLOG_LIMIT_BYTES: Positive = 4 * 1024**3
    # The other projects leave a part of BACKLOG_LIMIT_BYTES free. A project may use this share of that part. 1 is no
    # limit.
    BACKLOG_SHARE_PER_PROJECT: Annotated[float, Meta(ge=0.01)] = 0.5
    # The maximum number of datasets of a project that accept records. Each has a table and commits of its own, which
    # take workers' time.
    DATASETS_PER_PROJECT: Positive = 1000
    IDEMPOTENCY_TTL_SECONDS: Positive = 24 * 3600
    # The maximum number of Idempotency-Keys that Redis keeps for a project. Each takes 165 bytes of Redis's memory.
    IDEMPOTENCY_KEYS_PER_PROJECT: Positive = 1_000_000
    # How many refused requests each project keeps for the admin, with the start of their bodies. 0 keeps none.
    REFUSAL_LOG_ENTRIES: NotNegative = 100

    # -- Redis and the contract cache

    # The time limit of one reply of Redis.
    REDIS_TIMEOUT_SECONDS: Timeout = 1.0
    # The number of replicas of Redis that must have a record before the service answers its request with 202.
    REDIS_WAIT_REPLICAS: NotNegative = 0
    # The time limit of one admission, with all its reconnections.
    ADMISSION_TIMEOUT_SECONDS: Timeout = 3.0
    # Before a cached contract is this old, the web process compares it with the database. Usually, the project's
    # revision makes a change take effect immediately. This limit matters if Redis has an older revision again, for
    # example after a failover.
    CATALOG_TTL_SECONDS: LongSeconds = 30.0
    CATALOG_MAX_ENTRIES: Positive = 200_000

    # -- quotas

    # The monthly limit, in records, of users who have no limit of their own. -1 is unlimited.
    DEFAULT_QUOTA_LIMIT: Annotated[int, Meta(ge=-1)] = -1
    USAGE_FLUSH_SECONDS: Seconds = 10.0

    # -- queries

    # The limits of one query: its time, and the memory that its process may take for it.
    QUERY_TIMEOUT_SECONDS: Seconds = 10.0
    QUERY_MEMORY_BYTES: Annotated[int, Meta(ge=64 * 1024**2)] = 256 * 1024**2
    # How many queries of a project a machine runs at the same time. Further queries get 429.
    QUERY_CONCURRENCY: Positive = 4

    # -- workers

    DISPATCH_SECONDS: Seconds = 0.5
    # If the workers are fast enough, records get into the table within this number of seconds. While more than 20
    # datasets are due, each of them waits for more records, but not longer than this time.
    FRESHNESS_SECONDS: NotNegativeSeconds = 2.0
    # A commit takes entries until they have this number of records together, or until their decompressed bodies have
    # this number of bytes. The last entry may exceed the limit.
    DRAIN_MAX_RECORDS: Positive = 500_000
    DRAIN_MAX_BYTES: Positive = 64 * 1024**2
    # If a drain dies, another drain may start after this time. The time must be longer than any commit takes.
    DRAIN_LEASE_SECONDS: Seconds = 30.0
    COMPACT_SECONDS: LongSeconds = 300.0
    # For this time, files that a compaction has replaced stay for readers of an older table version.
    VACUUM_RETENTION_HOURS: NotNegative = 24
    # The number of days for which stored records are kept, counted from acceptance. 0 keeps all.
    RETENTION_DAYS: NotNegative = 0
    # The time limit of one request to an object store. A failed request is repeated up to 5 times, but only until this
    # time has passed since the first attempt.
    STORAGE_TIMEOUT_SECONDS: Seconds = 30.0
    HEARTBEAT_SECONDS: Seconds = 5.0
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"


def _redis_url(url: str) -> None:
    sentinel.check("REDIS_URL", url)
    cluster.check("REDIS_URL", url)


def _broker_url(url: str) -> None:
    sentinel.check("CELERY_BROKER_URL", url)
    if cluster.is_cluster(url):
        raise ImproperlyConfigured(
            "CELERY_BROKER_URL: a cluster cannot be Celery's broker. Name a single Redis, a Redis behind Sentinel, or "
            "RabbitMQ."
        )


# Variables whose text has its own syntax. Each function checks one variable. It raises ImproperlyConfigured.
_SYNTAX: Mapping[str, Callable[[str], object]] = {
    "DATA_DIR": data_directory,
    "DATABASE_URL": database,
    "REDIS_URL": _redis_url,
    "CELERY_BROKER_URL": _broker_url,
    "STORAGE_URL": storage_location,
}
# Spellings of a bool that msgspec does not know.
_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def read_environment(variables: Mapping[str, str]) -> Environment:
    """Return the values of all variables. An empty variable counts as one that is not set.

    Raises:
        ImproperlyConfigured: Variables are wrong. The message has one line for each of them.
    """
    values: dict[str, object] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(Environment):
        if text := variables.get(field.name):
            try:
                values[field.name] = _value(text, field.type)
                _SYNTAX.get(field.name, str)(text)
            except msgspec.ValidationError:
                problems.append(f"{field.name}={text}: expected {_expected(field.type)}.")
            except ImproperlyConfigured as error:
                problems.append(str(error))
    if problems:
        raise ImproperlyConfigured("\n".join(problems))
    return Environment(**values)  # type: ignore[arg-type]  # each value was converted to its field's type


def _value(text: str, kind: Any) -> object:
    if kind is str:
        return text
    if kind == list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is bool:
        text = _SWITCHES.get(text.lower(), text)
    value = msgspec.convert(text.strip(), kind, strict=False)
    if isinstance(value, float) and not math.isfinite(value):
        raise msgspec.ValidationError("not finite")
    return value


def _expected(kind: Any) -> str:
    """Return the words for an error message: what a variable of this type must contain."""
    match type_info(kind):
        case BoolType():
            return "true or false"
        case LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case FloatType(ge=minimum):
            return f"a number, at least {minimum:g}"
        case IntType(ge=minimum):
            return f"a whole number, at least {minimum}"
        case other:
            return f"{other}"
