"""Whether everything that ingest needs is there."""

import os
from collections.abc import Mapping
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from redis.exceptions import RedisError

from datasets import installation
from datasets.installation import UnusableData
from datasets.tables.storage import ForeignTable, TableGone, is_directory, storage_options
from datasets.tables.storage_check import check_storage
from ingest.monitoring import heartbeat, memory
from ingest.monitoring.heartbeat import Sign

# A storage that takes longer is not well; and the worker has other things to do.
_STORAGE_SECONDS = 5.0
NO_ANSWER = "no answer"


def look_at_storage() -> None:
    """Leave a sign of what the storage looks like from here. Run by a worker."""
    heartbeat.leave(heartbeat.STORAGE, _storage())


def checks() -> dict[str, str]:
    """Return `ok`, or what is wrong, for all that ingest needs. Says nothing of a tenant."""
    state = {"redis": "ok", "database": _database()}
    try:
        state["redis"] = _redis()
        signs = heartbeat.read()
    except (RedisError, OSError):
        unknown = dict.fromkeys((*heartbeat.PROCESSES, heartbeat.STORAGE), "unknown: redis gives no answer")
        return {**state, "redis": NO_ANSWER, **unknown}
    return {**state, **states(signs)}


def states(signs: Mapping[str, Sign | None]) -> dict[str, str]:
    """Return what each sign of life says; a missing one is named."""
    gone = f"no sign of life for {heartbeat.STALE_SECONDS} seconds"
    found = {name: sign.state if sign else gone for name, sign in signs.items()}
    if signs[heartbeat.STORAGE] is None:
        found[heartbeat.STORAGE] = f"unknown: no worker has looked at it for {heartbeat.STALE_SECONDS} seconds"
    return found


def _redis() -> str:
    try:
        installation.check()
    except UnusableData as refusal:
        return str(refusal)
    except DatabaseError:
        pass  # that is the database's row
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
        DeltaTable.is_deltatable(f"{settings.STORAGE_URL.rstrip('/')}/readiness", options)
        check_storage(_STORAGE_SECONDS)
    except (TableGone, ForeignTable) as failure:
        return str(failure)
    except DatabaseError:
        return "unknown: the database gives no answer"
    except (DeltaError, OSError) as failure:
        return f"unavailable: {type(failure).__name__}"
    return "ok"
