"""A dataset's Delta Lake table: rows, and beside them how far the queue has been read, in one atomic commit."""

import os
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    QueryBuilder,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from django.conf import settings

from config.common import clock
from datasets.models import Dataset
from datasets.schemas.field_types import FIELD_TYPES, TIMESTAMP
from datasets.schemas.schema import Field

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
# The property of a table that says which dataset it was made for: `Dataset.table_id`. The dataset's primary key is not
# enough: a database that was restored from a backup gives it to another one.
_TABLE_ID = "datasetIngest.tableId"
FOREIGN = "The table in its place was made for another dataset. Is this the right database, and the right storage?"
_MAX_OPEN = 1000
# A checkpoint is written, and a handle opened anew, after so many commits. What delta-rs keeps of each that it has seen
# makes the next one dearer: one of 100 rows took 124 ms of CPU after 800, and so takes 25.
_COMMITS_A_CHECKPOINT = 50
# How delta-rs says that another writer committed first: for the same queue, or with a new column.
_CONCURRENT = ("Concurrent transaction", "Metadata changed")
# Into files of about this size small ones are merged.
_FILE_BYTES = 100 * 1024 * 1024
# Rows are looked up so many at a time, and those within a minute in one range.
_IDS_A_QUERY = 10_000
_GAP_MS = 60_000
# Tables of which one must be there before another is made.
_WITNESSES = 10


class ConcurrentCommit(Exception):
    """Another writer has committed for the same queue: nothing was written; read the table again."""


class TableGone(OSError):
    """There has been a table, and it is not there: a disk is not mounted, or the table was deleted."""


class ForeignTable(OSError):
    """The table is another dataset's: the database or the storage is not the one that the dataset was made with."""


def _is_directory() -> bool:
    """Whether tables are in a directory, and not in an object store."""
    return urlsplit(settings.STORAGE_URL).scheme in ("", "file")


# The log is cut by who appends, and by nobody else: of two at once, one finds a file gone, and what it has committed
# looks as if it had failed. (Told by its argument, delta-rs's compaction does not listen.)
_CUT_THE_LOG = PostCommitHookProperties(cleanup_expired_logs=True)


def _configuration() -> dict[str, str]:
    """How a table keeps its log. Commits come twice a second where there is traffic: they are folded into checkpoints.

    Of an object store, delta-rs asks for what is new. A directory it lists whole, three times a commit, and looks at
    each file: with 80,000 of them, less than half of a busy day's, a commit took 4.5 seconds of CPU.
    """
    return {
        "delta.checkpointInterval": str(_COMMITS_A_CHECKPOINT),
        "delta.logRetentionDuration": "interval 15 minutes" if _is_directory() else "interval 1 days",
        "delta.enableExpiredLogCleanup": "false",  # but see _CUT_THE_LOG
        # Each checkpoint carries what was removed from the table for so long. There vacuum finds what it has to delete.
        "delta.deletedFileRetentionDuration": f"interval {settings.VACUUM_RETENTION_HOURS + 1} hours",
    }


def storage_options(seconds: float | None = None) -> dict[str, str]:
    """How long delta-rs waits for an object store, which may never answer. The rest it finds in the environment."""
    if _is_directory():
        return {}
    most = f"{seconds or settings.STORAGE_TIMEOUT_SECONDS:g}s"
    # `timeout` is of one request, its body included; after `retry_timeout` it is not sent again.
    return {"timeout": most, "connect_timeout": most, "retry_timeout": most, "max_retries": "5"}


def check_storage(seconds: float | None = None) -> None:
    """Raise TableGone or ForeignTable if tables have been made, and none of the latest is there and its dataset's."""
    foreign = False
    made = Dataset.objects.filter(has_table=True).order_by("-pk")[:_WITNESSES]
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


def unreadable(reason: Exception) -> str:
    """What a person is told who cannot see a table; the storage's own words are for the log."""
    if isinstance(reason, TableGone):
        return "Its table is gone: is the storage mounted?"
    if isinstance(reason, ForeignTable):
        return f"{FOREIGN} Nothing of it is shown, and nothing is written to it."
    return f"Its table cannot be read: {type(reason).__name__}."


class DatasetTable:
    """One dataset's table. Methods raise delta-rs's errors, or OSError, where the storage fails."""

    def __init__(self, project_id: int, dataset_id: int) -> None:
        self.uri = f"{settings.STORAGE_URL.rstrip('/')}/project_{project_id}/dataset_{dataset_id}"
        self.dataset: Dataset | None = None  # without one, the table is taken as it is
        self._delta: DeltaTable | None = None
        self._seen: tuple[int, tuple[int, ...] | None] = (0, None)  # a version, and its trace
        self._opened_at = 0  # version

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetTable":
        """Return a dataset's table. It must be there if the dataset has one, and must have been made for it."""
        table = cls(dataset.project_id, dataset.pk)
        table.dataset = dataset
        return table

    def refresh(self) -> bool:
        """See the table as it is now; return whether it exists.

        Raises TableGone if there has been one, and ForeignTable if it is not the dataset's.
        """
        if self._delta is not None and self._is_young(self._delta) and self._is_in_place():
            self._delta.update_incremental()
        else:
            self._delta = None
            try:
                self._delta = DeltaTable(self.uri, storage_options=storage_options())
            except TableNotFoundError as failure:
                if self.dataset is not None and self.dataset.has_table:
                    raise TableGone(
                        f"no table at {self.uri}, where there has been one: is the storage mounted?"
                    ) from failure
                return False
            self._opened_at = self._delta.version()
        self._check_owner()
        version = self.delta.version()
        self._seen = version, self._trace(version)
        return True

    def _check_owner(self) -> None:
        """Raise ForeignTable if the table was not made for the dataset. `services.adopt_table` is for older ones."""
        dataset = self.dataset
        if dataset is None:
            return
        found = self.table_id
        is_from_before = found is None and (dataset.has_table or dataset.table_id is None)
        if not is_from_before and found != str(dataset.table_id):
            self._delta = None
            raise ForeignTable(f"{FOREIGN} {self.uri}")

    @property
    def table_id(self) -> str | None:
        """The `Dataset.table_id` that the table was made with; None in one from before there were any."""
        return self.delta.metadata().configuration.get(_TABLE_ID)

    def set_table_id(self, table_id: UUID) -> None:
        """Note in the table which dataset it belongs to. Raises ConcurrentCommit if another writer was faster."""
        try:
            self.delta.alter.set_table_properties({_TABLE_ID: str(table_id)}, raise_if_not_exists=False)
        except CommitFailedError as failure:
            raise ConcurrentCommit from failure
        self.refresh()

    def is_there(self, seconds: float | None = None) -> bool:
        """Whether the storage has the table, whatever its state; what the storage raises in so many seconds."""
        return DeltaTable.is_deltatable(self.uri, storage_options(seconds))

    def is_ours(self, seconds: float | None = None) -> bool:
        """Return False if the table is certain to be another dataset's."""
        try:
            self._delta = DeltaTable(self.uri, storage_options=storage_options(seconds))
            self._check_owner()
        except ForeignTable:
            return False
        except DeltaError:
            return True  # what else is wrong with it is for those who read it to say
        return True

    def _is_young(self, delta: DeltaTable) -> bool:
        """Whether few commits were made since the handle was opened, by whomever."""
        return delta.version() - self._opened_at < _COMMITS_A_CHECKPOINT

    def _is_in_place(self) -> bool:
        """Whether what was seen last is still there. When a disk is unmounted, its mount point is a directory in which
        nothing newer is found, and which takes commits like any other."""
        version, trace = self._seen
        return self._trace(version) == trace

    def _trace(self, version: int) -> tuple[int, ...] | None:
        """What tells a commit's file from another at the same path; None without one, and of an object store."""
        try:
            found = os.stat(f"{self.uri.removeprefix('file://')}/_delta_log/{version:020}.json")
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

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

    def create(self, fields: Sequence[Field], transactions: Sequence[Transaction] = ()) -> None:
        """Make the table, empty, unless another writer was faster."""
        columns = [*BASE_COLUMNS, *(pa.field(field.name, FIELD_TYPES[field.type].arrow) for field in fields)]
        schema = pa.schema([*columns, pa.field(PARTITION, pa.date32())])
        try:
            DeltaTable.create(
                self.uri,
                schema,
                mode="ignore",
                partition_by=[PARTITION],
                configuration={**_configuration(), **self._owner()},
                raise_if_key_not_exists=False,
                storage_options=storage_options(),
                # Trying again, delta-rs would begin the table a second time, after the first writer's commits.
                commit_properties=CommitProperties(max_commit_retries=0, app_transactions=list(transactions)),
            )
        except CommitFailedError:
            if not self.refresh():
                raise
        self._delta = None
        self.refresh()

    def _owner(self) -> dict[str, str]:
        if self.dataset is None or self.dataset.table_id is None:
            return {}
        return {_TABLE_ID: str(self.dataset.table_id)}

    def columns(self) -> dict[str, pa.DataType]:
        """The columns that exist, by name."""
        return {field.name: field.type for field in pa.schema(self.delta.schema())}

    def position(self, generation: str) -> int:
        """The last queue position that is in the table, 0 before the first."""
        return self.delta.transaction_version(_position_id(generation)) or 0

    def stored(self, generation: str) -> int:
        """Rows ever written from this generation of the queue."""
        return self.delta.transaction_version(_stored_id(generation)) or 0

    def traces(self, ids: Iterable[str]) -> dict[str, set[str]]:
        """Return the trace ids of the rows that have these ids, by id; an id without a row is left out.

        Files know their least and greatest id, so only those around the ids are read.
        """
        wanted = sorted(set(ids))
        found: defaultdict[str, set[str]] = defaultdict(set)
        for at in range(0, len(wanted), _IDS_A_QUERY):
            some = wanted[at : at + _IDS_A_QUERY]
            terms = " OR ".join(f"id BETWEEN '{least}' AND '{greatest}'" for least, greatest in _ranges(some))
            sql = f'SELECT id, "__traceId" FROM records WHERE {terms}'  # noqa: S608
            batches = pa.RecordBatchReader.from_stream(QueryBuilder().register("records", self.delta).execute(sql))
            for batch in batches:
                row_ids, traces = (column.cast(pa.string()) for column in batch.columns)
                is_wanted = pc.is_in(row_ids, pa.array(some))
                pairs = zip(row_ids.filter(is_wanted).to_pylist(), traces.filter(is_wanted).to_pylist(), strict=True)
                for row_id, trace in pairs:
                    found[row_id].add(trace)
        return dict(found)

    def append(self, rows: pa.Table | None, *, generation: str, position: int, stored: int) -> None:
        """Commit rows (None: none) together with the queue position that they bring the table to.

        Raises ConcurrentCommit where another writer did so since the last `refresh`.
        """
        properties = CommitProperties(app_transactions=reached(generation, position, stored))
        try:
            self._commit(rows, properties)
        except CommitFailedError as failure:
            self._delta = None
            if any(reason in str(failure) for reason in _CONCURRENT):
                raise ConcurrentCommit from failure
            raise
        except BaseException:
            self._delta = None  # whatever the handle holds now, the table is the truth
            raise
        if not self._is_in_place():
            self._delta = None
            if not self.refresh() or self.position(generation) < position:
                raise TableGone(f"{self.uri} was taken away while it was written to")

    def _commit(self, rows: pa.Table | None, properties: CommitProperties) -> None:
        how: Any = {"mode": "append", "commit_properties": properties, "post_commithook_properties": _CUT_THE_LOG}
        if rows is None:
            self.delta.create_write_transaction([], schema=self.delta.schema(), **how)
        else:
            write_deltalake(self.delta, rows, schema_mode="merge", **how)

    def tidy(self, *, sweep: bool = False) -> None:
        """Merge small files, drop days beyond retention, delete what no reader needs any more.

        With `sweep`, also delete what writers that died have left behind; that takes a listing of all files.
        Raises ConcurrentCommit where another did so meanwhile.
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
            raise ConcurrentCommit from failure
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
        refuse is a commit that was begun before a change of metadata: so each begins with one. It sets what the table
        is made with, which a release or a setting may have changed since.
        """
        self.delta.alter.set_table_properties(_configuration())


def _ranges(ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return sorted ids as ranges of those that are close in time. An id begins with its ms."""
    ranges: list[tuple[str, str]] = []
    for each in ids:
        if ranges and int(each.partition("-")[0]) - int(ranges[-1][1].partition("-")[0]) < _GAP_MS:
            ranges[-1] = ranges[-1][0], each
        else:
            ranges.append((each, each))
    return ranges


def reached(generation: str, position: int, stored: int) -> list[Transaction]:
    """What a commit carries beside rows: up to where the queue was read, and how many rows were ever written."""
    return [Transaction(_position_id(generation), position), Transaction(_stored_id(generation), stored)]


def _position_id(generation: str) -> str:
    return f"queue-position-{generation}"


def _stored_id(generation: str) -> str:
    return f"queue-stored-{generation}"


_open: OrderedDict[int, DatasetTable] = OrderedDict()


def warm_table(dataset: Dataset) -> DatasetTable:
    """The process's handle of a table, kept open from one drain to the next. Not for use by several threads."""
    table = _open.pop(dataset.pk, None) or DatasetTable.of(dataset)
    table.dataset = dataset
    _open[dataset.pk] = table
    if len(_open) > _MAX_OPEN:
        _open.popitem(last=False)
    return table
