"""One version of a dataset's table, and those of its files that a query must read."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from config.common.env import storage_is_directory
from config.lazy import deltalake, pyarrow_dataset
from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from datasets.queries.query import Condition, Query
from datasets.tables import layout
from datasets.tables.storage import ForeignTable, TableGone, storage_options, table_uri

if TYPE_CHECKING:  # processes that run queries need no Django
    from datasets.models import Dataset

# The log of the table has, for each file, the least and the greatest value of a column. These statistics can be used
# for these types. For decimals, our statistics are doubles. Other writers cut the statistics of long texts.
_EXACT = ("number", "integer", "timestamp", "date")
_MAX_TEXT = 30  # no writer cuts texts of up to this length
_MILLISECOND = 1000  # in the unit of the table's times: after a compaction, the statistics have only milliseconds


@dataclass(frozen=True, slots=True)
class Location:
    """Where a dataset's table is.

    Attributes:
        uri: The table's path or URL.
        options: delta-rs's options for the storage.
        table_id: The ID that the table must have.
        must_exist: Whether the dataset has had a table, so that a missing one is an error.
    """

    uri: str
    options: dict[str, str] = field(default_factory=dict)
    table_id: str | None = None
    must_exist: bool = False

    @classmethod
    def of(cls, dataset: Dataset) -> Location:
        """Return where the table of a dataset is."""
        table_id = str(dataset.table_id) if dataset.table_id else None
        return cls(table_uri(dataset.project_id, dataset.pk), storage_options(), table_id, dataset.has_table)


@dataclass(frozen=True, slots=True)
class File:
    """A file of the table: its path in the table's directory, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of a table, and the files that may have rows of a query.

    Attributes:
        uri: The table's path or URL.
        version: The version, or -1 if there is no table.
        files: The files that the query must read.
        delta: delta-rs's object for the table, or None if there is no table.
    """

    uri: str
    version: int
    files: tuple[File, ...] = ()
    delta: deltalake.DeltaTable | None = None

    @property
    def has_plain_paths(self) -> bool:
        """Whether DuckDB can open the files by their paths. DuckDB would read a path with a `*` as a pattern."""
        return storage_is_directory(self.uri) and glob.escape(self.uri) == self.uri

    def paths(self) -> list[str]:
        """Return the paths of the files. Call it only if `has_plain_paths`."""
        return [f"{self.uri}/{file.path}" for file in self.files]

    def dataset(self) -> pyarrow_dataset.Dataset:
        """Return the files as a dataset of Arrow. Columns that a file does not have are null."""
        if self.delta is None:
            raise ValueError("There is no table.")
        whole = self.delta.to_pyarrow_dataset()
        # delta-rs gives Arrow the lowest and the highest value in each file. Leave them out: they are less exact than
        # the values.
        fragments = [whole.format.make_fragment(file.path, whole.filesystem) for file in self.files]
        return pyarrow_dataset.FileSystemDataset(fragments, whole.schema, whole.format, whole.filesystem)


def read(location: Location, query: Query) -> Snapshot:
    """Return the newest version of a table.

    Raises:
        TableGone: The dataset had a table, and it is missing.
        ForeignTable: The table was made for another dataset.
        OSError, deltalake.exceptions.DeltaError: The storage fails.
    """
    try:
        delta = deltalake.DeltaTable(location.uri, storage_options=location.options)
    except deltalake.exceptions.TableNotFoundError as failure:
        if location.must_exist:
            raise TableGone(f"the table at {location.uri} is missing, but it existed before") from failure
        return Snapshot(location.uri, -1)
    _check_owner(location, delta)
    return Snapshot(location.uri, delta.version(), tuple(_files(delta, query)), delta)


def _check_owner(location: Location, delta: deltalake.DeltaTable) -> None:
    """Raise ForeignTable if the table was not made for the dataset: see `DatasetTable`."""
    found = delta.metadata().configuration.get(layout.TABLE_ID)
    is_from_before = found is None and (location.must_exist or location.table_id is None)
    if not is_from_before and found != location.table_id:
        raise ForeignTable(f"{ForeignTable.text} {location.uri}")


def _files(delta: deltalake.DeltaTable, query: Query) -> Iterator[File]:
    """Yield the files that may have rows of the query, according to their statistics."""
    actions = pa.table(delta.get_add_actions(flatten=True))
    if not actions.num_rows:
        return
    keep = pa.array([True] * actions.num_rows)
    for name, least, greatest in _bounds(query):
        keep = pc.and_(keep, _may_match(actions, f"min.{name}", pc.less_equal, greatest))
        keep = pc.and_(keep, _may_match(actions, f"max.{name}", pc.greater_equal, least))
    kept = _sorted(actions.filter(keep), query)
    for path, size in zip(kept["path"].to_pylist(), kept["size_bytes"].to_pylist(), strict=True):
        yield File(path, size)


def _may_match(actions: pa.Table, statistic: str, compare: Any, bound: Any) -> pa.Array:
    """Return, for each file, whether it may have rows within a bound. Yes, if the statistic is unknown or cut."""
    if bound is None or statistic not in actions.column_names:
        return pa.array([True] * actions.num_rows)
    column = actions[statistic].combine_chunks()
    limit = pa.scalar(bound, column.type)
    if pa.types.is_timestamp(column.type):  # a time in the statistics may be up to a millisecond beside the exact one
        column, limit = column.cast(pa.int64()), limit.cast(pa.int64())
        limit = pa.scalar(limit.as_py() + (_MILLISECOND if compare is pc.less_equal else -_MILLISECOND))
    fits = compare(column, limit)
    return pc.or_(pc.fill_null(fits, True), _is_cut(column))


def _sorted(actions: pa.Table, query: Query) -> pa.Table:
    """Sort the files so that those with the first rows of the result come first, according to their statistics.

    DuckDB can then skip the other files. In the opposite order, it would keep each row of a large table for a while.
    """
    first = query.order_by[0] if query.is_plain else None
    if first is None or first.by.column is None:
        return actions
    statistic = f"{'max' if first.descending else 'min'}.{first.by.column.name}"
    if statistic not in actions.column_names:
        return actions
    return actions.sort_by([(statistic, "descending" if first.descending else "ascending")])


def narrowed(snapshot: Snapshot, query: Query) -> Snapshot:
    """Return `snapshot` with only the files that `query` must read. Call this after conditions were added."""
    if snapshot.delta is None:
        return snapshot
    return replace(snapshot, files=tuple(_files(snapshot.delta, query)))


def _is_cut(column: pa.Array) -> pa.Array:
    """Return, for each statistic, whether it is a text that the writer may have cut."""
    if not pa.types.is_string(column.type):
        return pa.array([False] * len(column))
    return pc.fill_null(pc.greater(pc.utf8_length(column), _MAX_TEXT), False)


def _bounds(query: Query) -> Iterator[tuple[str, Any, Any]]:
    """Yield a column with the least and the greatest value that rows of the query may have in it. None is no bound."""
    yield "timestamp", query.start, query.end
    for condition in query.where:
        if condition.column.kind in (*_EXACT, "string", "enum"):
            least, greatest = _bounds_of(condition)
            yield condition.column.name, least, greatest


def _bounds_of(condition: Condition) -> tuple[Any, Any]:
    values: Any = condition.values
    match condition.op:
        case "=" | "in":
            return min(values), max(values)
        case "<" | "<=":
            return None, values[0]
        case ">" | ">=":
            return values[0], None
    return None, None
