"""Detect a storage that is not mounted, or is the wrong one. A new storage without tables is fine.

A table proves that the storage is the right one. As long as the database knows no table, a marker file proves it. (A
drain may die after it has created the first table, and before it has written to the database that there is a table.)
Only a directory has a marker file. An object store needs none, because it cannot be unmounted. The drain first writes
the marker file, then writes to the database that there is a marker file, and then creates the table.
"""

from pathlib import Path

from django.conf import settings

from datasets import installation
from datasets.models import Dataset, Installation
from datasets.tables.storage import ForeignTable, TableGone, is_directory
from datasets.tables.table import DatasetTable

# Look for the tables of at most this many datasets, newest first. One table that exists and is ours is enough.
_TRIED_TABLES = 10


def check_storage(seconds: float | None = None) -> None:
    """Check that the storage has the table of one of the newest datasets. If none has a table yet, look for the marker.

    Args:
        seconds: How long to wait for each request to an object store. Default: STORAGE_TIMEOUT_SECONDS.

    Raises:
        TableGone: None of the tables is there, or the marker file is not there any more.
        ForeignTable: Each table that is there was made for another dataset.
    """
    foreign = False
    made = Dataset.objects.filter(has_table=True).order_by("-pk")[:_TRIED_TABLES]
    for dataset in made:
        table = DatasetTable.of(dataset)
        if table.is_there(seconds):
            if table.is_ours(seconds):
                return
            foreign = True
    if foreign:
        raise ForeignTable("the tables belong to other datasets: is this the right database, and the right storage?")
    if made:
        raise TableGone("none of the tables that were made is there: is the storage mounted?")
    if is_directory() and Installation.objects.filter(storage_marked=True).exists() and not _marker().exists():
        raise TableGone(
            f"STORAGE_URL has no file {_marker().name}: is the storage mounted? If it is the right directory, create "
            "this file in it."
        )


def mark_storage() -> None:
    """Put our marker file into the storage. Any user who can enter the directory can see that the file is there."""
    _marker().parent.mkdir(parents=True, exist_ok=True)
    _marker().touch(mode=0o600)


def _marker() -> Path:
    """Return the path of the empty file whose name has this installation's ID."""
    return Path(settings.STORAGE_URL) / f"installation-{installation.our_id()}"
