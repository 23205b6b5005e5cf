"""Reading stored records back: the latest first, or all of them in a stream."""

from collections.abc import Iterator

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from datasets.models import Dataset
from datasets.table import PARTITION, DatasetTable


def _open(dataset: Dataset) -> DeltaTable | None:
    table = DatasetTable(dataset.project_id, dataset.pk)
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


def _names(delta: DeltaTable) -> list[str]:
    return [field.name for field in delta.schema().fields]


def _query(dataset: Dataset, rest: str) -> pa.Table | None:
    delta = _open(dataset)
    if delta is None:
        return None
    columns = ", ".join(f'"{name}"' for name in _names(delta) if name != PARTITION)
    reader = QueryBuilder().register("records", delta).execute(f"SELECT {columns} FROM records {rest}")  # noqa: S608
    found = pa.table(reader.read_all())
    # DataFusion's views of strings are not what every writer takes.
    plain = [pa.field(f.name, pa.string() if pa.types.is_string_view(f.type) else f.type) for f in found.schema]
    return found.cast(pa.schema(plain))
