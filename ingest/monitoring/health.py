"""Check everything that ingest needs: Redis, the database, the storage and the background processes."""

import os
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from redis.exceptions import RedisError

from config.lazy import deltalake
from datasets import installation
from datasets.installation import UnusableData
from datasets.tables.storage import ForeignTable, TableGone, is_directory, storage_options
from datasets.tables.storage_check import check_storage
from ingest.monitoring import heartbeat, memory
from ingest.monitoring.heartbeat import Heartbeat

# A worker stops waiting for the storage after this time, because it has other tasks.
_STORAGE_SECONDS = 5.0
NO_ANSWER = "no answer"


def look_at_storage() -> None:
    """Check the storage, and write the result as its heartbeat. A worker runs this."""
    heartbeat.write(heartbeat.STORAGE, _storage())


def checks() -> dict[str, str]:
    """Return for the name of each part `ok`, or what is wrong. The texts never name the data of a project."""
    state = {"redis": "ok", "database": _database()}
    try:
        state["redis"] = _redis()
        heartbeats = heartbeat.read()
    except (RedisError, OSError):
        unknown = dict.fromkeys((*heartbeat.PROCESSES, heartbeat.STORAGE), "unknown: Redis does not answer")
        return {**state, "redis": NO_ANSWER, **unknown}
    return {**state, **states(heartbeats)}


def states(heartbeats: Mapping[str, Heartbeat | None]) -> dict[str, str]:
    """Return what each heartbeat says, or that it is missing."""
    missing = f"no heartbeat for {heartbeat.STALE_SECONDS} seconds"
    found = {name: last.state if last else missing for name, last in heartbeats.items()}
    if heartbeats[heartbeat.STORAGE] is None:
        found[heartbeat.STORAGE] = f"unknown: no worker has checked it for {heartbeat.STALE_SECONDS} seconds"
    return found


def _redis() -> str:
    try:
        installation.check()
    except UnusableData as refusal:
        return str(refusal)
    except DatabaseError:
        pass  # the check of the database reports this
    return memory.state()


def _database() -> str:
    close_old_connections()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return NO_ANSWER
    finally:
        close_old_connections()
    return "ok"


def _storage() -> str:
    try:
        if is_directory():
            root = Path(settings.STORAGE_URL)
            root.mkdir(parents=True, exist_ok=True)
            if not os.access(root, os.W_OK):
                return "not writable"
        options = storage_options(_STORAGE_SECONDS)
        deltalake.DeltaTable.is_deltatable(f"{settings.STORAGE_URL.rstrip('/')}/readiness", options)
        check_storage(_STORAGE_SECONDS)
    except (TableGone, ForeignTable) as failure:
        return str(failure)
    except DatabaseError:
        return "unknown: the database does not answer"
    except (deltalake.exceptions.DeltaError, OSError) as failure:
        return f"unavailable: {type(failure).__name__}"
    return "ok"
