"""Read stored records: the latest, a selection, or all as a stream. Memory is limited in bytes.

A record may be as large as a request's body, so a limit on the number of rows does not limit memory. Queries find rows
by their IDs, which are short. Then values are read a few rows at a time, and passed on in batches of about
`BATCH_BYTES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings

from config.lazy import deltalake
from config.lazy import pyarrow as pa
from datasets.tables.layout import PARTITION
from datasets.tables.storage import RecordsUnreadable
from datasets.tables.table import DatasetTable

if TYPE_CHECKING:  # query processes run without Django's models
    from datasets.models import Dataset

BATCH_BYTES = 8 * 1024**2
_MAX_BATCH_ROWS = 65_536
# Rows to decode in one step. With 16, a million small records cost 4 seconds of CPU, and 16 of the largest records take
# 160 MB.
_MAX_DECODED_ROWS = 16
_MAX_DECODED_BYTES = 160 * 1024**2


@contextmanager
def _reported() -> Iterator[None]:
    """Turn Arrow's and delta-rs's errors about a missing or damaged file into RecordsUnreadable."""
    try:
        yield
    except (pa.ArrowException, deltalake.exceptions.DeltaError) as failure:
        reason = str(failure).partition("\n")[0]
        raise RecordsUnreadable(f"The storage: records cannot be read: {reason}") from failure


_ID = re.compile(r"[0-9][0-9-]{0,39}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that records must meet. An empty condition is ignored.

    Attributes:
        since: The record was received at this time or later.
        until: The record was received before this time.
        trace_id: The record has this trace ID.
        record_id: The record's ID begins with this text.
        request: The record's ID begins with this text, which is the same for all records of one request.
        terms: SQL terms that must be true. Values in them are already in quotes.
    """

    since: datetime | None = None
    until: datetime | None = None
    trace_id: str = ""
    record_id: str = ""
    request: str = ""
    terms: tuple[str, ...] = ()

    def where(self, *more: str) -> str:
        """Return the SQL clause for the selection and more terms.

        An ID begins with the time at which the record was received, in milliseconds. The statistics of each file have
        the lowest and highest ID of its rows. So conditions on IDs let a query skip files.
        """
        terms = [*self.terms, *more]
        if self.since is not None:
            terms.append(f"id >= '{_milliseconds(self.since):013}'")
        if self.until is not None:
            terms.append(f"id < '{_milliseconds(self.until):013}'")
        if self.trace_id:
            terms.append(f'"__traceId" = {_literal(self.trace_id)}')
        for beginning in filter(None, (self.record_id, self.request)):
            # `~` sorts after every character of an ID.
            terms.append(f"id >= '{beginning}' AND id < '{beginning}~'" if _ID(beginning) else "false")
        return f"WHERE {' AND '.join(terms)}" if terms else ""


ALL = Selection()


def count(dataset: Dataset, selection: Selection = ALL) -> int:
    """Return the number of stored rows of a selection. Raise RecordsUnreadable if they cannot be counted."""
    delta = _open(dataset)
    if delta is None:
        return 0
    with _reported():
        found = _read_all(delta, f"SELECT count(*) AS rows FROM records {selection.where()}")  # noqa: S608
        return int(found["rows"][0].as_py())


def columns(dataset: Dataset) -> list[str]:
    """Return the names of the table's columns. There are none if there is no table yet."""
    delta = _open(dataset)
    return [] if delta is None else list(_whole_schema(delta).names)


def batches(dataset: Dataset, selection: Selection = ALL) -> Iterator[pa.RecordBatch]:
    """Yield all rows of a selection in any order. Raise RecordsUnreadable if a row cannot be read."""
    delta = _open(dataset)
    if delta is not None:
        yield from _in_batches(_stream(delta, _columns(delta), selection.where()))


def latest(
    dataset: Dataset, limit: int, selection: Selection = ALL, *, before: str = "", max_characters: int
) -> pa.Table | None:
    """Return the latest rows of a selection, latest first. Return None if there is no table yet.

    Args:
        dataset: The dataset.
        limit: The maximum number of rows.
        selection: The conditions that rows must meet.
        before: Return only rows with IDs lower than this one. Empty: all rows.
        max_characters: The length to which texts are cut.

    Raises:
        RecordsUnreadable: A row cannot be read.
    """
    delta = _open(dataset)
    if delta is None:
        return None
    older = [f"id < {_literal(before)}"] if before else []
    ids = _latest_ids(delta, selection.where(*older), limit)
    columns = _columns(delta, max_characters)
    if not ids:
        return _whole_schema(delta).empty_table()
    where = selection.where(_between(ids))
    return _sorted(delta, columns, where)


def latest_batches(dataset: Dataset, limit: int) -> Iterator[pa.RecordBatch]:
    """Yield the latest `limit` rows, latest first."""
    delta = _open(dataset)
    ids = _latest_ids(delta, "", limit) if delta is not None else []
    at, rows = 0, _MAX_DECODED_ROWS  # the index at which the next page begins, and the number of its rows
    while delta is not None and at < len(ids):
        where = Selection().where(_between(ids[at : at + rows]))
        page = _sorted(delta, _columns(delta), where)
        yield from _in_batches(iter(page.to_batches(max_chunksize=_MAX_DECODED_ROWS)))
        at += rows
        # Pages grow while they are far smaller than a batch, and shrink otherwise.
        rows = min(rows * 2, _MAX_BATCH_ROWS) if page.nbytes < BATCH_BYTES // 2 else max(1, rows // 2)


def _open(dataset: Dataset) -> deltalake.DeltaTable | None:
    table = DatasetTable.of(dataset)
    return table.delta if table.refresh() else None


def _milliseconds(moment: datetime) -> int:
    return max(0, int(moment.timestamp() * 1000))


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _between(ids: list[str]) -> str:
    return f"id >= {_literal(ids[-1])} AND id <= {_literal(ids[0])}"


def _whole_schema(delta: deltalake.DeltaTable) -> pa.Schema:
    return pa.schema([field for field in pa.schema(delta.schema()) if field.name != PARTITION])


def _columns(delta: deltalake.DeltaTable, max_characters: int | None = None) -> str:
    """Return the columns for a SELECT. `max_characters` is the length to which texts are cut.

    The cast copies texts. Without it they would be views that keep a whole page of the file in memory.
    """
    return ", ".join(f'{_value(field, max_characters)} AS "{field.name}"' for field in _whole_schema(delta))


def _value(field: pa.Field, max_characters: int | None) -> str:
    """Return the expression for a column's values. With `max_characters`, an array is a text, too."""
    name = f'"{field.name}"'
    if pa.types.is_list(field.type) and max_characters is None:
        return f"arrow_cast({name}, 'List(Utf8)')" if _is_text(field.type.value_type) else name
    if pa.types.is_list(field.type):
        return f"arrow_cast(left(arrow_cast({name}, 'Utf8'), {max_characters}), 'Utf8')"
    if not _is_text(field.type):
        return name
    return f"arrow_cast({name if max_characters is None else f'left({name}, {max_characters})'}, 'Utf8')"


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_string_view(kind))


def _read_all(delta: deltalake.DeltaTable, sql: str) -> pa.Table:
    """Return a small result as a whole: a count or IDs."""
    return pa.RecordBatchReader.from_stream(deltalake.QueryBuilder().register("records", delta).execute(sql)).read_all()


def _latest_ids(delta: deltalake.DeltaTable, where: str, limit: int) -> list[str]:
    with _reported():
        found = _read_all(delta, f"SELECT id FROM records {where} ORDER BY id DESC LIMIT {int(limit)}")  # noqa: S608
        ids: list[str] = found["id"].to_pylist()
        return ids


def _stream(delta: deltalake.DeltaTable, columns: str, where: str) -> Iterator[pa.RecordBatch]:
    """Yield rows with all values, a few at a time."""
    builder = deltalake.QueryBuilder().register("records", delta)
    rows = max(1, min(_MAX_DECODED_ROWS, _MAX_DECODED_BYTES // settings.MAX_BODY_BYTES))
    for setting in (
        f"batch_size = {rows}",
        "target_partitions = 1",  # each partition would hold rows in memory
        "parquet.pushdown_filters = true",  # do not decode values of rows that are not wanted
    ):
        builder.execute(f"SET datafusion.execution.{setting}")
    with _reported():
        stream = builder.execute(f"SELECT {columns} FROM records {where}")  # noqa: S608
        for batch in pa.RecordBatchReader.from_stream(stream):
            if batch.nbytes <= BATCH_BYTES:
                yield batch
            else:
                yield from (batch.slice(row, 1) for row in range(batch.num_rows))


def _sorted(delta: deltalake.DeltaTable, columns: str, where: str) -> pa.Table:
    """Return rows as one table, latest first."""
    return pa.Table.from_batches(_in_batches(_stream(delta, columns, where))).sort_by([("id", "descending")])


def _concatenated(found: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return one batch with plain strings: some writers do not accept DataFusion's string views."""
    batch = pa.concat_batches(found)
    fields = [pa.field(field.name, pa.string() if _is_text(field.type) else field.type) for field in batch.schema]
    return batch.cast(pa.schema(fields))


def _in_batches(source: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of about BATCH_BYTES. A larger row gets its own batch."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in source:
        added = batch.nbytes
        if waiting and (size + added > BATCH_BYTES or rows + batch.num_rows > _MAX_BATCH_ROWS):
            yield _concatenated(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + added
    if waiting:
        yield _concatenated(waiting)
