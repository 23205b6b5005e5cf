"""Whether everything that ingest needs is there."""

import json
import os
import time
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from redis.exceptions import RedisError

from config import redis
from datasets.table import TableGone, check_storage, storage_options
from ingest import memory, redis_keys

# A worker that is busy with one commit is late; one that has not been heard of for so long is gone.
_STALE_SECONDS = 60
# A storage that takes longer is not well; and the worker has other things to do.
_STORAGE_SECONDS = 5.0


def beat() -> None:
    """Leave a sign of life, with what the storage looks like from the worker. Run by a worker."""
    sign = json.dumps({"at": time.time(), "storage": _storage()})
    redis.client().set(redis_keys.HEARTBEAT, sign, ex=_STALE_SECONDS)


def checks() -> dict[str, str]:
    """`ok`, or what is wrong, of redis, database, worker and storage. Says nothing of a tenant."""
    state = {"redis": "ok", "database": _database(), "worker": "ok", "storage": "unknown: no worker"}
    try:
        state["redis"] = memory.state()
        sign = _sign()
    except (RedisError, OSError):
        return {**state, "redis": "no answer", "worker": "unknown: redis gives no answer"}
    if sign is None:
        return {**state, "worker": f"no sign of life for {_STALE_SECONDS} seconds"}
    return {**state, "storage": sign["storage"]}


def heartbeat_age() -> float | None:
    """Seconds since a worker's last sign of life; None without one."""
    sign = _sign()
    return None if sign is None else max(0.0, time.time() - sign["at"])


def storage_state() -> str | None:
    """`ok`, or what is wrong with the storage as a worker saw it last; None without a worker."""
    sign = _sign()
    return None if sign is None else str(sign["storage"])


def _sign() -> dict[str, Any] | None:
    found = redis.client().get(redis_keys.HEARTBEAT)
    sign: dict[str, Any] | None = None if found is None else json.loads(found)
    return sign


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
        options = storage_options(_STORAGE_SECONDS)
        DeltaTable.is_deltatable(f"{settings.STORAGE_URL.rstrip('/')}/readiness", options)
        check_storage(_STORAGE_SECONDS)
    except TableGone as failure:
        return str(failure)
    except DatabaseError:
        return "unknown: the database gives no answer"
    except (DeltaError, OSError) as failure:
        return f"unavailable: {type(failure).__name__}"
    return "ok"
