"""Maintenance of a table: merge small files, delete old days and files that no reader needs, comment columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings

from config.common import clock
from config.lazy import deltalake
from config.lazy import pyarrow as pa
from datasets.schemas.fields import Field
from datasets.tables import layout
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.layout import PARTITION
from datasets.tables.table import DatasetTable

# Compaction merges smaller files into files of about this size.
_FILE_BYTES = 100 * 1024 * 1024


def tidy(table: DatasetTable, fields: Sequence[Field] = (), *, sweep: bool = False) -> None:
    """Compact a table, delete days older than RETENTION_DAYS, write the comments of columns, and vacuum.

    Args:
        table: The table. It need not exist yet.
        fields: The declared fields, whose descriptions and units become the columns' comments.
        sweep: Also delete files that writers left when they died. This lists all files of the table.

    Raises:
        ConcurrentCommit: Another maintenance run committed meanwhile.
    """
    if not table.refresh():
        return
    delta = table.delta
    try:
        _comment(delta, fields)
        if _has_files_to_merge(delta):
            _refuse_earlier_compactions(delta)
            _compact(delta)
        if settings.RETENTION_DAYS:
            oldest = (clock.now() - timedelta(days=settings.RETENTION_DAYS)).date()
            delta.delete(f"\"{PARTITION}\" < DATE '{oldest.isoformat()}'")
    except deltalake.exceptions.CommitFailedError as failure:
        raise ConcurrentCommit from failure
    delta.vacuum(
        retention_hours=settings.VACUUM_RETENTION_HOURS,
        dry_run=False,
        enforce_retention_duration=False,
        full=sweep,
    )


def _comment(delta: deltalake.DeltaTable, fields: Sequence[Field]) -> None:
    """Update the comments of columns from the descriptions and units of the fields. Each change is a commit."""
    comments = {column.name: column.metadata.get(layout.COMMENT, "") for column in delta.schema().fields}
    for field in fields:
        said = layout.comment(field)
        if comments.get(field.name, said) != said:
            delta.alter.set_column_metadata(field.name, {layout.COMMENT: said})


def _compact(delta: deltalake.DeltaTable) -> None:
    delta.optimize.compact(target_size=_FILE_BYTES)


def _has_files_to_merge(delta: deltalake.DeltaTable) -> bool:
    """Return whether a day has at least two small files."""
    files = pa.table(delta.get_add_actions(flatten=True))
    days = zip(files[f"partition.{PARTITION}"].to_pylist(), files["size_bytes"].to_pylist(), strict=True)
    small = Counter(day for day, size in days if size < _FILE_BYTES)
    return any(count > 1 for count in small.values())


def _refuse_earlier_compactions(delta: deltalake.DeltaTable) -> None:
    """Change the table's metadata, so that delta-rs refuses any compaction that began earlier.

    delta-rs lets two compactions of the same files both commit, and then the table has each row twice. But it refuses
    a commit that began before a change of metadata. The change sets the properties that a new table gets, because a
    release or a setting may have changed them.
    """
    delta.alter.set_table_properties(layout.configuration())
