"""The storage that holds the tables: a directory or an object store, named by STORAGE_URL."""

from django.conf import settings

from config.common.env import storage_is_directory


class TableGone(OSError):
    """The dataset had a table, but the storage has none: a disk is not mounted, or the table was deleted."""


class ForeignTable(OSError):
    """The table was made for another dataset: this is the wrong database or the wrong storage."""

    text = "This table was made for another dataset. Check that DATABASE_URL and STORAGE_URL belong together."


class RecordsUnreadable(OSError):
    """The table exists, but some of its records cannot be read."""


def is_directory() -> bool:
    """Return whether tables are in a directory rather than in an object store."""
    return storage_is_directory(settings.STORAGE_URL)


def table_uri(project_id: int, dataset_id: int) -> str:
    """Return the path or URL of a dataset's table."""
    return f"{settings.STORAGE_URL.rstrip('/')}/project_{project_id}/dataset_{dataset_id}"


def storage_options(seconds: float | None = None) -> dict[str, str]:
    """Return delta-rs's options that limit how long it waits for an object store, which may never answer.

    delta-rs reads credentials and addresses from the environment.

    Args:
        seconds: The limit in seconds. Default: STORAGE_TIMEOUT_SECONDS.
    """
    if is_directory():
        return {}
    limit = f"{seconds or settings.STORAGE_TIMEOUT_SECONDS:g}s"
    # `timeout` limits one request with its body. After `retry_timeout` delta-rs does not repeat a request.
    return {"timeout": limit, "connect_timeout": limit, "retry_timeout": limit, "max_retries": "5"}


def unreadable(reason: Exception) -> str:
    """Return what an admin reads when a table cannot be read. The storage's error text goes to the log only."""
    if isinstance(reason, TableGone):
        return "The table is gone. Check that the storage is mounted."
    if isinstance(reason, ForeignTable):
        return f"{ForeignTable.text} Nothing of it is shown, and nothing is written to it."
    return f"The table cannot be read: {type(reason).__name__}."
