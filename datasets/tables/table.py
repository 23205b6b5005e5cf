"""A dataset's Delta Lake table: rows and the watermark, in one atomic commit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from config.lazy import deltalake
from config.lazy import pyarrow as pa
from datasets.schemas.fields import Field
from datasets.tables import commits, data_files, layout, log
from datasets.tables.commits import ConcurrentCommit
from datasets.tables.log import Head
from datasets.tables.storage import ForeignTable, TableGone, is_directory, storage_options, table_uri

if TYPE_CHECKING:  # query processes run without Django's models
    from datasets.models import Dataset

# The maximum number of tables that a process keeps open. A table in a directory takes 2 KB. A table in an object store
# takes 100 KB, for delta-rs's handle.
_MAX_HEADS = 20_000
_MAX_HANDLES = 1000


class DatasetTable:
    """One dataset's table. If the storage fails, methods raise delta-rs's errors or OSError."""

    def __init__(self, project_id: int, dataset_id: int) -> None:
        self.uri = table_uri(project_id, dataset_id)
        self.dataset: Dataset | None = None  # without a dataset, nothing checks whose table it is
        self._head: Head | None = None  # None: only delta-rs may append
        self._delta: deltalake.DeltaTable | None = None  # may be older than the head
        self._opened_at = 0  # the version at which the handle was opened
        self._identity: log.Identity | None = None  # identity of that version's file; None in an object store

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
        if not self._follow() and not self._open():
            return False
        self._check_owner()
        return True

    def _follow(self) -> bool:
        """Read what is new since the last refresh. Return False if the table must be opened again."""
        if self._head is not None:
            return self._head.follow()
        if self._delta is None or is_directory() or not self._is_young(self._delta):
            return False
        self._delta.update_incremental()
        return True

    def _open(self) -> bool:
        """Open a new handle. Return whether the table exists. Raise TableGone if the dataset had a table."""
        self._close()
        try:
            self._delta = deltalake.DeltaTable(self.uri, storage_options=storage_options())
        except deltalake.exceptions.TableNotFoundError as failure:
            if self.dataset is not None and self.dataset.has_table:
                text = f"the table at {self.uri} is missing, but it existed before: check that the storage is mounted"
                raise TableGone(text) from failure
            return False
        self._opened_at = self._delta.version()
        self._identity = log.identity_of(self.uri, self._opened_at)
        self._head = Head.of(self.uri, self._delta) if is_directory() else None
        return True

    def _place(self) -> tuple[int, log.Identity | None]:
        """Return the last version that was read, and the identity of its file (None in an object store)."""
        if self._head is not None:
            return self._head.version, self._head.identity
        return self._opened_at, self._identity

    def _close(self) -> None:
        """Forget the state of the table. The next refresh opens the table again."""
        self._delta = self._head = None

    def _check_owner(self) -> None:
        """Raise ForeignTable if the table was not made for the dataset.

        A table from a release without table IDs has none: `services.adopt_table` gives it one.
        """
        dataset = self.dataset
        if dataset is None:
            return
        found = self.table_id
        is_from_before = found is None and (dataset.has_table or dataset.table_id is None)
        if not is_from_before and found != str(dataset.table_id):
            self._close()
            raise ForeignTable(f"{ForeignTable.text} {self.uri}")

    @property
    def table_id(self) -> str | None:
        """The `Dataset.table_id` with which the table was made, or None if an earlier release made it without one."""
        if self._head is not None:
            return self._head.table_id
        return self.delta.metadata().configuration.get(layout.TABLE_ID)

    def set_table_id(self, table_id: UUID) -> None:
        """Write to the table which dataset it belongs to. Raise ConcurrentCommit if another writer was faster."""
        try:
            self.delta.alter.set_table_properties({layout.TABLE_ID: str(table_id)}, raise_if_not_exists=False)
        except deltalake.exceptions.CommitFailedError as failure:
            raise ConcurrentCommit from failure
        self.refresh()

    def is_there(self, seconds: float | None = None) -> bool:
        """Return whether the storage has the table, even if it cannot be read. `seconds` limits the wait."""
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
        """Return whether all writers made fewer than COMMITS_PER_CHECKPOINT commits since the handle was opened."""
        return delta.version() - self._opened_at < layout.COMMITS_PER_CHECKPOINT

    @property
    def exists(self) -> bool:
        """Whether there was a table at the last `refresh`."""
        return self._head is not None or self._delta is not None

    @property
    def delta(self) -> deltalake.DeltaTable:
        """delta-rs's handle of the table as of the last `refresh`.

        The handle is never newer. With a newer handle, delta-rs would accept our append, even if another writer has
        committed a watermark that we have not read.
        """
        if self._head is not None and (self._delta is None or self._delta.version() != self._head.version):
            self._delta = deltalake.DeltaTable(self.uri, version=self._head.version)
        if self._delta is None:
            raise deltalake.exceptions.TableNotFoundError(f"no table at {self.uri}")
        return self._delta

    def create(self, fields: Sequence[Field], transactions: Sequence[deltalake.Transaction] = ()) -> None:
        """Create the empty table, unless another writer was faster.

        Args:
            fields: The declared fields, each of which gets a column.
            transactions: The watermarks that the first commit writes: see `commits.watermark_transactions`.
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
        self._close()
        self.refresh()

    def _owner(self) -> dict[str, str]:
        """Return the table property that names the dataset."""
        if self.dataset is None or self.dataset.table_id is None:
            return {}
        return {layout.TABLE_ID: str(self.dataset.table_id)}

    def columns(self) -> Mapping[str, pa.DataType]:
        """Return the Arrow types of the table's columns by name."""
        if self._head is not None:
            return self._head.columns
        return {field.name: field.type for field in pa.schema(self.delta.schema())}

    def watermark(self, generation: str) -> int:
        """Return the position of the last entry of this generation that drains have handled, or 0 if there is none."""
        return self._transaction(commits.watermark_id(generation))

    def stored(self, generation: str) -> int:
        """Return the number of rows ever written from this generation of the queue."""
        return self._transaction(commits.stored_id(generation))

    def _transaction(self, name: str) -> int:
        """Return the number in the newest commit with this transaction, or 0 if there is no such commit."""
        if self._head is None:
            return self.delta.transaction_version(name) or 0
        if name not in self._head.transactions:
            self._head.transactions[name] = self.delta.transaction_version(name)
        return self._head.transactions[name] or 0

    def has_renumbered(self, generation: str, first_id: str, trace_id: str) -> bool:
        """Return whether a commit has stored this entry under a new stream ID."""
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
            ConcurrentCommit: Another writer committed since the last `refresh`.
            TableGone: The table was deleted since the last `refresh`, or during the commit.
        """
        noted = [
            *commits.watermark_transactions(generation, watermark, stored),
            *commits.renumbered_transactions(generation, renumbered),
        ]
        version, identity = self._place()
        try:
            self._commit(rows, noted)
        except (deltalake.exceptions.CommitFailedError, FileExistsError) as failure:
            self._close()
            if isinstance(failure, FileExistsError) or commits.is_concurrent(failure):
                raise ConcurrentCommit from failure
            raise
        except FileNotFoundError as failure:
            self._close()
            raise TableGone(f"{self.uri} was deleted, or its disk was unmounted") from failure
        except BaseException:
            self._close()  # what we know of the table may be wrong now
            raise
        if log.identity_of(self.uri, version) != identity:
            self._close()
            if not self.refresh() or self.watermark(generation) < watermark:
                raise TableGone(f"{self.uri} was deleted while rows were written to it")

    def _commit(self, rows: pa.Table | None, noted: Sequence[deltalake.Transaction]) -> None:
        """Commit without delta-rs if that is possible. A commit that is due for a checkpoint is left to delta-rs."""
        head = self._head
        if (
            head is not None
            and not layout.is_due_for_checkpoint(head.version + 1)
            and (rows is None or data_files.is_writable(rows, head.columns))
        ):
            self._add(head, rows, noted)
        else:
            self._commit_by_delta_rs(rows, noted)

    def _add(self, head: Head, rows: pa.Table | None, noted: Sequence[deltalake.Transaction]) -> None:
        """Commit without delta-rs."""
        added = [] if rows is None else [data_files.write(self.uri, rows, head.columns)]
        transactions = [{"txn": {"appId": each.app_id, "version": each.version}} for each in noted]
        try:
            head.add([*added, *transactions])
        except FileExistsError:
            for action in added:
                with suppress(OSError):
                    data_files.delete(self.uri, action)
            raise
        self._delta = None

    def _commit_by_delta_rs(self, rows: pa.Table | None, noted: Sequence[deltalake.Transaction]) -> None:
        options: Any = {
            "mode": "append",
            "commit_properties": deltalake.CommitProperties(app_transactions=list(noted)),
            # Only appends delete expired log files. If two writers did this at the same time, one of them would find a
            # file missing, and report its commit as failed. Compaction ignores this argument. So the table's property
            # `enableExpiredLogCleanup` forbids the cleanup.
            "post_commithook_properties": deltalake.PostCommitHookProperties(cleanup_expired_logs=True),
        }
        if rows is None:
            self.delta.create_write_transaction([], schema=self.delta.schema(), **options)
        else:
            deltalake.write_deltalake(self.delta, rows, schema_mode="merge", **options)
        if is_directory():
            self._close()


_open: OrderedDict[int, DatasetTable] = OrderedDict()


def cached_table(dataset: Dataset) -> DatasetTable:
    """Return this process's handle of a table. It stays open for later drains. Only one thread may use it."""
    table = _open.pop(dataset.pk, None) or DatasetTable.of(dataset)
    table.dataset = dataset
    _open[dataset.pk] = table
    if len(_open) > (_MAX_HEADS if is_directory() else _MAX_HANDLES):
        _open.popitem(last=False)
    return table
