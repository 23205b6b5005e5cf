"""A dataset's Delta Lake table: rows, and beside them how far the queue has been read, in one atomic commit."""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from django.conf import settings

from config import clock
from datasets.field_types import FIELD_TYPES, TIMESTAMP
from datasets.schema import Field

# A name that no field can have. The day of `ingested_at`: retention drops whole days.
PARTITION = "ingested-on"

BASE_COLUMNS: tuple[pa.Field, ...] = (
    pa.field("id", pa.string()),
    pa.field("project_id", pa.int64()),
    pa.field("dataset_id", pa.int64()),
    pa.field("timestamp", TIMESTAMP),
    pa.field("ingested_at", TIMESTAMP),
    pa.field("context", pa.string()),
    pa.field("__traceId", pa.string()),
)
# Commits come twice a second where there is traffic: their log is folded into checkpoints, and not kept for a month.
_CONFIGURATION: dict[str, str | None] = {
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 1 days",
    "delta.enableExpiredLogCleanup": "true",
}
_MOST_OPEN = 1000
# How delta-rs says that another writer committed first: for the same queue, or with a new column.
_OVERTAKEN = ("Concurrent transaction", "Metadata changed")
# Into files of about this size small ones are merged.
_FILE_BYTES = 100 * 1024 * 1024


class Overtaken(Exception):
    """Another writer has committed for the same queue: nothing was written; read the table again."""


class DatasetTable:
    """One dataset's table. Methods raise delta-rs's errors where the storage fails."""

    def __init__(self, project_id: int, dataset_id: int) -> None:
        self.uri = f"{settings.STORAGE_URL.rstrip('/')}/project_{project_id}/dataset_{dataset_id}"
        self._delta: DeltaTable | None = None

    def refresh(self) -> bool:
        """See the table as it is now; whether it exists."""
        if self._delta is not None:
            self._delta.update_incremental()
            return True
        try:
            self._delta = DeltaTable(self.uri)
        except TableNotFoundError:
            return False
        return True

    @property
    def exists(self) -> bool:
        """Whether there is a table, as of the last `refresh`."""
        return self._delta is not None

    @property
    def delta(self) -> DeltaTable:
        """The table as of the last `refresh`."""
        if self._delta is None:
            raise TableNotFoundError(f"no table at {self.uri}")
        return self._delta

    def create(self, fields: Sequence[Field]) -> None:
        """Make the table, empty, unless another writer was faster."""
        columns = [*BASE_COLUMNS, *(pa.field(field.name, FIELD_TYPES[field.type].arrow) for field in fields)]
        schema = pa.schema([*columns, pa.field(PARTITION, pa.date32())])
        try:
            DeltaTable.create(
                self.uri,
                schema,
                mode="ignore",
                partition_by=[PARTITION],
                configuration=_CONFIGURATION,
                # Trying again, delta-rs would begin the table a second time, after the first writer's commits.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            if not self.refresh():
                raise
        self._delta = DeltaTable(self.uri)

    def columns(self) -> dict[str, pa.DataType]:
        """The columns that exist, by name."""
        return {field.name: field.type for field in pa.schema(self.delta.schema())}

    def position(self, generation: str) -> int:
        """The last queue position that is in the table, 0 before the first."""
        return self.delta.transaction_version(_position_id(generation)) or 0

    def stored(self, generation: str) -> int:
        """Rows ever written from this generation of the queue."""
        return self.delta.transaction_version(_stored_id(generation)) or 0

    def append(self, rows: pa.Table | None, *, generation: str, position: int, stored: int) -> None:
        """Commit rows (None: none) together with the queue position that they bring the table to.

        Raises Overtaken where another writer did so since the last `refresh`.
        """
        properties = CommitProperties(
            app_transactions=[
                Transaction(_position_id(generation), position),
                Transaction(_stored_id(generation), stored),
            ]
        )
        try:
            if rows is None:
                self.delta.create_write_transaction([], "append", self.delta.schema(), commit_properties=properties)
            else:
                write_deltalake(self.delta, rows, mode="append", schema_mode="merge", commit_properties=properties)
        except CommitFailedError as failure:
            self._delta = None
            if any(reason in str(failure) for reason in _OVERTAKEN):
                raise Overtaken from failure
            raise
        except BaseException:
            self._delta = None  # whatever the handle holds now, the table is the truth
            raise

    def tidy(self, *, sweep: bool = False) -> None:
        """Merge small files, drop days beyond retention, delete what no reader needs any more.

        With `sweep`, also delete what writers that died have left behind; that takes a listing of all files.
        Raises Overtaken where another did so meanwhile.
        """
        if not self.refresh():
            return
        try:
            if self._has_files_to_merge():
                self._claim()
                self._compact()
            if settings.RETENTION_DAYS:
                oldest = (clock.now() - timedelta(days=settings.RETENTION_DAYS)).date()
                self.delta.delete(f"\"{PARTITION}\" < DATE '{oldest.isoformat()}'")
        except CommitFailedError as failure:
            raise Overtaken from failure
        self.delta.vacuum(
            retention_hours=settings.VACUUM_RETENTION_HOURS,
            dry_run=False,
            enforce_retention_duration=False,
            full=sweep,
        )

    def _compact(self) -> None:
        self.delta.optimize.compact(target_size=_FILE_BYTES)

    def _has_files_to_merge(self) -> bool:
        files = pa.table(self.delta.get_add_actions(flatten=True))
        days = zip(files[f"partition.{PARTITION}"].to_pylist(), files["size_bytes"].to_pylist(), strict=True)
        small = Counter(day for day, size in days if size < _FILE_BYTES)
        return any(count > 1 for count in small.values())

    def _claim(self) -> None:
        """Have any compaction refused that has looked at the table before now.

        delta-rs lets two compactions of the same files both commit, and then each row stands twice. What it does
        refuse is a commit that was begun before a change of metadata: so each begins with one, that changes nothing.
        """
        name = "delta.checkpointInterval"
        self.delta.alter.set_table_properties({name: self.delta.metadata().configuration.get(name, "100")})


def _position_id(generation: str) -> str:
    return f"queue-position-{generation}"


def _stored_id(generation: str) -> str:
    return f"queue-stored-{generation}"


_open: OrderedDict[int, DatasetTable] = OrderedDict()


def warm_table(project_id: int, dataset_id: int) -> DatasetTable:
    """The process's handle of a table, kept open from one drain to the next. Not for use by several threads."""
    table = _open.pop(dataset_id, None) or DatasetTable(project_id, dataset_id)
    _open[dataset_id] = table
    if len(_open) > _MOST_OPEN:
        _open.popitem(last=False)
    return table
