"""Whether everything that ingest needs is there."""

import json
import os
import time
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from redis.exceptions import RedisError

from config import redis
from ingest import redis_keys

# A worker that is busy with one commit is late; one that has not been heard of for so long is gone.
_STALE_SECONDS = 60


def beat() -> None:
    """Leave a sign of life, with what the storage looks like from the worker. Run by a worker."""
    sign = json.dumps({"at": time.time(), "storage": _storage()})
    redis.client().set(redis_keys.HEARTBEAT, sign, ex=_STALE_SECONDS)


def checks() -> dict[str, str]:
    """`ok`, or what is wrong, of redis, database, worker and storage. Says nothing of a tenant."""
    state = {"redis": "ok", "database": _database(), "worker": "ok", "storage": "unknown: no worker"}
    try:
        sign = redis.client().get(redis_keys.HEARTBEAT)
    except (RedisError, OSError):
        return {**state, "redis": "no answer", "worker": "unknown: redis gives no answer"}
    if sign is None:
        return {**state, "worker": f"no sign of life for {_STALE_SECONDS} seconds"}
    return {**state, "storage": json.loads(sign)["storage"]}


def heartbeat_age() -> float | None:
    """Seconds since a worker's last sign of life; None without one."""
    sign = redis.client().get(redis_keys.HEARTBEAT)
    return None if sign is None else max(0.0, time.time() - json.loads(sign)["at"])


def _database() -> str:
    close_old_connections()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return "no answer"
    finally:
        close_old_connections()
    return "ok"


def _storage() -> str:
    try:
        if settings.STORAGE_IS_LOCAL:
            root = Path(settings.STORAGE_URL)
            root.mkdir(parents=True, exist_ok=True)
            if not os.access(root, os.W_OK):
                return "not writable"
        DeltaTable.is_deltatable(f"{settings.STORAGE_URL.rstrip('/')}/readiness")
    except (DeltaError, OSError) as failure:
        return f"unavailable: {type(failure).__name__}"
    return "ok"
