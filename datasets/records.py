"""Reading stored records back: the latest first, a selection of them, or all in a stream."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from datasets.models import Dataset
from datasets.table import PARTITION, DatasetTable


def _open(dataset: Dataset) -> DeltaTable | None:
    table = DatasetTable.of(dataset)
    return table.delta if table.refresh() else None


def count(dataset: Dataset) -> int:
    """Rows in the table."""
    delta = _open(dataset)
    return delta.count() if delta is not None else 0


def latest(dataset: Dataset, limit: int) -> pa.Table | None:
    """The last `limit` rows that were stored, latest first; None if there is no table yet."""
    return _query(dataset, f"ORDER BY id DESC LIMIT {int(limit)}")


def batches(dataset: Dataset) -> Iterator[pa.RecordBatch]:
    """All rows, a batch at a time, in no order."""
    delta = _open(dataset)
    if delta is None:
        return
    scanner = delta.to_pyarrow_dataset().scanner(columns=[name for name in _names(delta) if name != PARTITION])
    yield from scanner.to_batches()


_ID = re.compile(r"[0-9][0-9-]{0,39}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Selection:
    """Records by when they were received (from, and before), by trace id, and by record id or its beginning."""

    since: datetime | None = None
    until: datetime | None = None
    trace_id: str = ""
    record_id: str = ""

    def where(self, *more: str) -> str:
        """As SQL. An id begins with the time of its acceptance, and files know their least and greatest id."""
        terms = list(more)
        if self.since is not None:
            terms.append(f"id >= '{_milliseconds(self.since):013}'")
        if self.until is not None:
            terms.append(f"id < '{_milliseconds(self.until):013}'")
        if self.trace_id:
            terms.append(f'"__traceId" = {_literal(self.trace_id)}')
        if self.record_id:
            # `~` comes after all that an id is made of.
            found = _ID(self.record_id)
            terms.append(f"id >= '{self.record_id}' AND id < '{self.record_id}~'" if found else "false")
        return f"WHERE {' AND '.join(terms)}" if terms else ""


def selected(dataset: Dataset, selection: Selection, *, limit: int, before: str = "") -> pa.Table | None:
    """The latest `limit` rows of a selection, latest first, with ids below `before`; None without a table."""
    older = [f"id < {_literal(before)}"] if before else []
    return _query(dataset, f"{selection.where(*older)} ORDER BY id DESC LIMIT {int(limit)}")


def count_selected(dataset: Dataset, selection: Selection) -> int:
    """Rows of a selection."""
    delta = _open(dataset)
    if delta is None:
        return 0
    builder = QueryBuilder().register("records", delta)
    reader = builder.execute(f"SELECT count(*) AS rows FROM records {selection.where()}")  # noqa: S608
    return int(pa.table(reader.read_all())["rows"][0].as_py())


def selected_batches(dataset: Dataset, selection: Selection) -> Iterator[pa.RecordBatch]:
    """All rows of a selection, a batch at a time, in no order."""
    delta = _open(dataset)
    if delta is None:
        return
    builder = QueryBuilder().register("records", delta)
    sql = f"SELECT {_columns(delta)} FROM records {selection.where()}"  # noqa: S608
    for batch in pa.RecordBatchReader.from_stream(builder.execute(sql)):
        yield from _plain(pa.Table.from_batches([batch])).to_batches()


def _milliseconds(moment: datetime) -> int:
    return max(0, int(moment.timestamp() * 1000))


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _columns(delta: DeltaTable) -> str:
    return ", ".join(f'"{name}"' for name in _names(delta) if name != PARTITION)


def _plain(found: pa.Table) -> pa.Table:
    """DataFusion's views of strings are not what every writer takes."""
    plain = [pa.field(f.name, pa.string() if pa.types.is_string_view(f.type) else f.type) for f in found.schema]
    return found.cast(pa.schema(plain))


def _names(delta: DeltaTable) -> list[str]:
    return [field.name for field in delta.schema().fields]


def _query(dataset: Dataset, rest: str) -> pa.Table | None:
    delta = _open(dataset)
    if delta is None:
        return None
    builder = QueryBuilder().register("records", delta)
    reader = builder.execute(f"SELECT {_columns(delta)} FROM records {rest}")  # noqa: S608
    return _plain(pa.table(reader.read_all()))
