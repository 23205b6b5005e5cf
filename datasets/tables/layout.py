"""How a table is laid out: its columns, its partition, and its Delta Lake properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from django.conf import settings

from config.lazy import pyarrow as pa
from datasets.schemas.derived_types import type_of
from datasets.schemas.field_types import arrow_timestamp
from datasets.schemas.fields import Field
from datasets.tables import storage

# The UTC date of `ingested_at`. Retention deletes whole days. Because of the hyphen, no field can have this name.
PARTITION = "ingested-on"

# The number of the schema version with which the record was accepted. Rows that are older than this column are null.
VERSION = "__schemaVersion"

# The member of a column's metadata that readers of Delta Lake show as its comment.
COMMENT = "comment"

# The table property with the `Dataset.table_id` that the table was made for. A primary key is not enough: a database
# that was restored from a backup may give the same key to another dataset.
TABLE_ID = "datasetIngest.tableId"
# The number of commits between two checkpoints. After this number, we also open a new handle: a handle of delta-rs
# keeps data of each commit that it has read, so commits get slower. A commit of 100 rows took 124 ms of CPU after 800
# commits, and 25 ms with new handles.
COMMITS_PER_CHECKPOINT = 50


def is_due_for_checkpoint(version: int) -> bool:
    """Return whether delta-rs writes a checkpoint after the commit of this version."""
    return (version + 1) % COMMITS_PER_CHECKPOINT == 0


@lru_cache(maxsize=1)
def base_columns() -> tuple[pa.Field, ...]:
    """Return the columns that every table has, with their Arrow types."""
    return (
        pa.field("id", pa.string()),
        pa.field("project_id", pa.int64()),
        pa.field("dataset_id", pa.int64()),
        pa.field("timestamp", arrow_timestamp()),
        pa.field("ingested_at", arrow_timestamp()),
        pa.field("context", pa.string()),
        pa.field("__traceId", pa.string()),
        pa.field(VERSION, pa.int32()),
    )


def is_version(name: str, kind: pa.DataType) -> bool:
    """Return whether a column is our VERSION. No field type has its Arrow type."""
    return name == VERSION and kind == pa.int32()


def keeps_version(names: Iterable[str], columns: Mapping[str, pa.DataType]) -> bool:
    """Return whether rows get our VERSION. They do not if a field has this name: earlier releases did not reserve it.

    Args:
        names: The names of declared fields.
        columns: The columns that the table has.
    """
    others = (name for name, kind in columns.items() if not is_version(name, kind))
    return VERSION.lower() not in {name.lower() for name in (*names, *others)}


def table_schema(fields: Sequence[Field]) -> pa.Schema:
    """Return the Arrow schema of a table with these fields."""
    base = base_columns() if keeps_version((field.name for field in fields), {}) else base_columns()[:-1]
    columns = [*base, *(_column(field) for field in fields)]
    return pa.schema([*columns, pa.field(PARTITION, pa.date32())])


def _column(field: Field) -> pa.Field:
    said = comment(field)
    return pa.field(field.name, type_of(field).arrow(), metadata={COMMENT: said} if said else None)


def comment(field: Field) -> str:
    """Return the comment of a field's column: its description, and its unit in brackets."""
    unit = f"[{field.unit}]" if field.unit else ""
    return " ".join(filter(None, (field.description, unit)))


def configuration() -> dict[str, str]:
    """Return the table properties that say how Delta Lake keeps the table's log.

    A busy table gets two commits a second, and checkpoints sum them up. delta-rs asks an object store only for new
    commits, but it lists a whole directory three times a commit and looks at each file. With 80,000 files in the log, a
    commit took 4.5 seconds of CPU. A busy day writes more than twice as many. So a directory keeps 15 minutes of the
    log.
    """
    return {
        "delta.checkpointInterval": str(COMMITS_PER_CHECKPOINT),
        "delta.logRetentionDuration": "interval 15 minutes" if storage.is_directory() else "interval 1 days",
        "delta.enableExpiredLogCleanup": "false",  # appends delete expired log files: see datasets.tables.table
        # Checkpoints list removed files for this long. Vacuum learns from the list what to delete.
        "delta.deletedFileRetentionDuration": f"interval {settings.VACUUM_RETENTION_HOURS + 1} hours",
    }
