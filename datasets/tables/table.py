"""A dataset's Delta Lake table: rows and the watermark, in one atomic commit."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from config.lazy import deltalake
from config.lazy import pyarrow as pa
from datasets.models import Dataset
from datasets.schemas.fields import Field
from datasets.tables import commits, layout
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.storage import ForeignTable, TableGone, storage_options, table_uri

# Handles of tables that a process keeps open.
_MAX_OPEN = 1000


class DatasetTable:
    """One dataset's table. If the storage fails, methods raise delta-rs's errors or OSError."""

    def __init__(self, project_id: int, dataset_id: int) -> None:
        self.uri = table_uri(project_id, dataset_id)
        self.dataset: Dataset | None = None  # without a dataset, nothing checks whose table it is
        self._delta: deltalake.DeltaTable | None = None
        self._seen: tuple[int, tuple[int, ...] | None] = (0, None)  # the last version, and its file's identity
        self._opened_at = 0  # the version at which the handle was opened

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetTable:
        """Return a dataset's table. Its methods check that the table is not missing and was made for the dataset."""
        table = cls(dataset.project_id, dataset.pk)
        table.dataset = dataset
        return table

    def refresh(self) -> bool:
        """Read the table's newest version. Return whether the table exists.

        Raises:
            TableGone: The dataset had a table, and it is missing.
            ForeignTable: The table was made for another dataset.
        """
        if self._delta is not None and self._is_young(self._delta) and self._is_in_place():
            self._delta.update_incremental()
        elif not self._open():
            return False
        self._check_owner()
        version = self.delta.version()
        self._seen = version, self._file_identity(version)
        return True

    def _open(self) -> bool:
        """Open a new handle. Return whether the table exists. Raise TableGone if the dataset had a table."""
        self._delta = None
        try:
            self._delta = deltalake.DeltaTable(self.uri, storage_options=storage_options())
        except deltalake.exceptions.TableNotFoundError as failure:
            if self.dataset is not None and self.dataset.has_table:
                text = f"the table at {self.uri} is missing, but it existed before: check that the storage is mounted"
                raise TableGone(text) from failure
            return False
        self._opened_at = self._delta.version()
        return True

    def _check_owner(self) -> None:
        """Raise ForeignTable if the table was not made for the dataset.

        A table from a release without table ids has none: `services.adopt_table` gives it one.
        """
        dataset = self.dataset
        if dataset is None:
            return
        found = self.table_id
        is_from_before = found is None and (dataset.has_table or dataset.table_id is None)
        if not is_from_before and found != str(dataset.table_id):
            self._delta = None
            raise ForeignTable(f"{ForeignTable.text} {self.uri}")

    @property
    def table_id(self) -> str | None:
        """The `Dataset.table_id` that the table was made with, None in a table from before table IDs."""
        return self.delta.metadata().configuration.get(layout.TABLE_ID)

    def set_table_id(self, table_id: UUID) -> None:
        """Note in the table which dataset it belongs to. Raise ConcurrentCommit if another writer was faster."""
        try:
            self.delta.alter.set_table_properties({layout.TABLE_ID: str(table_id)}, raise_if_not_exists=False)
        except deltalake.exceptions.CommitFailedError as failure:
            raise ConcurrentCommit from failure
        self.refresh()

    def is_there(self, seconds: float | None = None) -> bool:
        """Return whether the storage has the table, in whatever state. `seconds` limits the wait for the storage."""
        return deltalake.DeltaTable.is_deltatable(self.uri, storage_options(seconds))

    def is_ours(self, seconds: float | None = None) -> bool:
        """Return False if the table certainly belongs to another dataset. `seconds` limits the wait for the storage."""
        try:
            self._delta = deltalake.DeltaTable(self.uri, storage_options=storage_options(seconds))
            self._check_owner()
        except ForeignTable:
            return False
        except deltalake.exceptions.DeltaError:
            return True  # readers of the table report any other problem
        return True

    def _is_young(self, delta: deltalake.DeltaTable) -> bool:
        """Return whether few commits, by all writers, were made since the handle was opened."""
        return delta.version() - self._opened_at < layout.COMMITS_PER_CHECKPOINT

    def _is_in_place(self) -> bool:
        """Return whether the last version that was read is still there.

        When a disk is unmounted, its mount point remains as an empty directory. That directory has no newer version, so
        it looks up to date, and it would accept commits.
        """
        version, identity = self._seen
        return self._file_identity(version) == identity

    def _file_identity(self, version: int) -> tuple[int, ...] | None:
        """Return what tells a commit's file from another file at the same path.

        Return None if there is no such file, and always for an object store.
        """
        try:
            found = os.stat(f"{self.uri}/_delta_log/{version:020}.json")
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    @property
    def exists(self) -> bool:
        """Whether there was a table at the last `refresh`."""
        return self._delta is not None

    @property
    def delta(self) -> deltalake.DeltaTable:
        """delta-rs's handle of the table as of the last `refresh`."""
        if self._delta is None:
            raise deltalake.exceptions.TableNotFoundError(f"no table at {self.uri}")
        return self._delta

    def create(self, fields: Sequence[Field], transactions: Sequence[deltalake.Transaction] = ()) -> None:
        """Create the empty table, unless another writer was faster.

        Args:
            fields: The declared fields, each of which gets a column.
            transactions: What the first commit notes beside rows: see `commits.watermark_transactions`.
        """
        try:
            deltalake.DeltaTable.create(
                self.uri,
                layout.table_schema(fields),
                mode="ignore",
                partition_by=[layout.PARTITION],
                configuration={**layout.configuration(), **self._owner()},
                raise_if_key_not_exists=False,
                storage_options=storage_options(),
                # With retries, delta-rs would create the table a second time, after the first writer's commits.
                commit_properties=deltalake.CommitProperties(max_commit_retries=0, app_transactions=list(transactions)),
            )
        except deltalake.exceptions.CommitFailedError:
            if not self.refresh():
                raise
        self._delta = None
        self.refresh()

    def _owner(self) -> dict[str, str]:
        """Return the table property that names the dataset."""
        if self.dataset is None or self.dataset.table_id is None:
            return {}
        return {layout.TABLE_ID: str(self.dataset.table_id)}

    def columns(self) -> dict[str, pa.DataType]:
        """Return the Arrow types of the table's columns by name."""
        return {field.name: field.type for field in pa.schema(self.delta.schema())}

    def watermark(self, generation: str) -> int:
        """Return the position of the last entry that drains have handled, 0 if there is none of this generation."""
        return self.delta.transaction_version(commits.watermark_id(generation)) or 0

    def stored(self, generation: str) -> int:
        """Return the number of rows ever written from this generation of the queue."""
        return self.delta.transaction_version(commits.stored_id(generation)) or 0

    def has_renumbered(self, generation: str, first_id: str, trace_id: str) -> bool:
        """Return whether a commit has stored an entry under a new stream ID."""
        return self.delta.transaction_version(commits.renumbered_id(generation, first_id, trace_id)) is not None

    def append(
        self,
        rows: pa.Table | None,
        *,
        generation: str,
        watermark: int,
        stored: int,
        renumbered: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Commit rows together with the new watermark.

        Args:
            rows: The rows, or None to commit only the watermark.
            generation: The queue's generation.
            watermark: The position of the last entry that the rows come from.
            stored: The number of rows ever written, these included.
            renumbered: The original stream ID and the trace ID of each entry that has got a new stream ID.

        Raises:
            ConcurrentCommit: Another writer committed for the same queue since the last `refresh`.
            TableGone: The table was deleted during the commit.
        """
        noted = [
            *commits.watermark_transactions(generation, watermark, stored),
            *commits.renumbered_transactions(generation, renumbered),
        ]
        properties = deltalake.CommitProperties(app_transactions=noted)
        try:
            self._commit(rows, properties)
        except deltalake.exceptions.CommitFailedError as failure:
            self._delta = None
            if commits.is_concurrent(failure):
                raise ConcurrentCommit from failure
            raise
        except BaseException:
            self._delta = None  # the handle may be wrong now, the table is right
            raise
        if not self._is_in_place():
            self._delta = None
            if not self.refresh() or self.watermark(generation) < watermark:
                raise TableGone(f"{self.uri} was deleted while rows were written to it")

    def _commit(self, rows: pa.Table | None, properties: deltalake.CommitProperties) -> None:
        options: Any = {
            "mode": "append",
            "commit_properties": properties,
            # Only appends delete expired log files. If two writers did so together, one would find a file missing and
            # report its commit as failed. Compaction ignores this argument, hence `enableExpiredLogCleanup` in the
            # table's properties.
            "post_commithook_properties": deltalake.PostCommitHookProperties(cleanup_expired_logs=True),
        }
        if rows is None:
            self.delta.create_write_transaction([], schema=self.delta.schema(), **options)
        else:
            deltalake.write_deltalake(self.delta, rows, schema_mode="merge", **options)


_open: OrderedDict[int, DatasetTable] = OrderedDict()


def warm_table(dataset: Dataset) -> DatasetTable:
    """Return this process's handle of a table, kept open from one drain to the next. Only one thread may use it."""
    table = _open.pop(dataset.pk, None) or DatasetTable.of(dataset)
    table.dataset = dataset
    _open[dataset.pk] = table
    if len(_open) > _MAX_OPEN:
        _open.popitem(last=False)
    return table
