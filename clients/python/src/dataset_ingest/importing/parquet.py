"""Parquet, read by pyarrow: `pip install "dataset-ingest-client[parquet]"`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from dataset_ingest.importing.rows import Columns, Row, Stopped
from dataset_ingest.schema.datasets import Dataset
from dataset_ingest.schema.records import Refused

_ROWS_AT_ONCE = 5000


class ParquetSource:
    """A Parquet file. A position in it is a number of rows."""

    def __init__(self, path: Path, columns: Columns, dataset: Dataset) -> None:
        try:
            self._parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise Stopped('Parquet needs pyarrow: pip install "dataset-ingest-client[parquet]".') from None
        self._path, self._dataset = path, dataset
        opened = self._parquet.ParquetFile(path)
        self.total = max(1, opened.metadata.num_rows)
        schema = opened.schema_arrow
        self._fields = columns.fields(schema.names, dataset)
        self._numbers = {each.name for each in dataset.fields if each.type in ("number", "number[]")}
        for column, field in zip(schema, self._fields, strict=True):
            kind = str(column.type)
            if field is not None and kind.startswith("timestamp") and "tz=" not in kind:
                raise Stopped(f"The column “{column.name}” has times without a zone. Convert it to UTC first.")
            if field is not None and "binary" in kind:
                raise Stopped(
                    f"The column “{column.name}” has the type {kind}, which JSON does not have. "
                    "Leave out the column with --drop."
                )

    def rows(self, position: int, number: int) -> Iterator[Row]:
        """Yield the rows after the first `position` rows."""
        at = 0
        for batch in self._parquet.ParquetFile(self._path).iter_batches(_ROWS_AT_ONCE):
            if at + batch.num_rows <= position:
                at += batch.num_rows
                continue
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                at += 1
                if at > position:
                    yield self._row(at, values)

    def _row(self, number: int, values: tuple[Any, ...]) -> Row:
        record = {
            field: self._value(field, value)
            for field, value in zip(self._fields, values, strict=True)
            if field is not None and value is not None
        }
        record.setdefault("context", {})
        try:
            return Row(number, number, self._dataset.records.encode(record))
        except Refused as refused:
            return Row(number, number, msgspec.json.encode(record, enc_hook=str), refused.problems[0])

    def _value(self, field: str, value: Any) -> Any:
        if isinstance(value, Decimal):
            return Raw(str(value).encode()) if field in self._numbers else str(value)
        if isinstance(value, datetime):
            return value.astimezone(timezone.utc)
        if field == "context" and isinstance(value, str):
            return Raw(value.encode())
        return value
