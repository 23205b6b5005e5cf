"""Parquet: convert the values of each column to JSON, without any loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from config.common.errors import Refused
from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from config.lazy import pyarrow_parquet
from datasets.schemas.schema import CompiledSchema
from ingest.importing.columns import ADDS_CONTEXT, IS_EXPORT, assign, holds_json, is_literal
from ingest.importing.files import DataFile
from ingest.importing.rows import Options, Row

_ROWS_AT_ONCE = 8192
_encode = msgspec.json.Encoder().encode


class ParquetSource:
    """A Parquet file."""

    first_number = 1
    are_lines = False

    def __init__(self, file: DataFile, options: Options, schema: CompiledSchema) -> None:
        self._path = file.path
        self._read = 0
        with _reported():
            reader = self._open()
            self._total: int = reader.metadata.num_rows
            found = reader.schema_arrow
            reader.close()
        self._columns = assign(found.names, schema, options)
        self._literals = {field for _, field in self._columns.used() if is_literal(field, schema)}
        self._packed = {field for _, field in self._columns.used() if holds_json(field, schema)}
        problems = [
            f"“{found.names[index]}” ({problem})"
            for index, _ in self._columns.used()
            if (problem := _problem(found.types[index]))
        ]
        if problems:
            raise Refused(
                f"These columns have no exact form in JSON: {', '.join(problems)}. Convert them in the file, or leave "
                "them out with --drop."
            )
        self.notes = [IS_EXPORT] if self._columns.is_export else []
        self.notes += [ADDS_CONTEXT] if self._columns.adds_context else []

    def _open(self) -> Any:
        return pyarrow_parquet.ParquetFile(self._path, pre_buffer=False, buffer_size=1024**2)

    def fraction(self) -> float:
        return self._read / max(1, self._total)

    def rows(self, begin: int) -> Iterator[Row]:
        record = self._columns.record
        with _reported():
            reader = self._open()
            group = position = 0
            while group < reader.num_row_groups and position + reader.metadata.row_group(group).num_rows <= begin:
                position += reader.metadata.row_group(group).num_rows
                group += 1
            groups = list(range(group, reader.num_row_groups))
            for batch in reader.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=groups, use_threads=False):
                skipped = max(0, begin - position)
                columns = [self._values(batch.column(index)[skipped:], field) for index, field in self._columns.used()]
                for number, values in enumerate(zip(*columns, strict=True), position + skipped):
                    yield Row(number, _encode(record(*values)))
                position += batch.num_rows
                self._read = position

    def _values(self, column: pa.Array, field: str) -> list[Any]:
        """Return the values of a column, in types that msgspec can encode. A null becomes UNSET."""
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
            kind = column.type
        if _is_text(kind):
            as_json = Raw if field == "context" or (self._columns.is_export and field in self._packed) else str
            return [UNSET if value is None else as_json(value) for value in column.to_pylist()]
        if pa.types.is_timestamp(kind):
            column = pc.strftime(column.cast(pa.timestamp(kind.unit)), "%Y-%m-%dT%H:%M:%SZ")
        elif pa.types.is_date(kind) or pa.types.is_time(kind):
            column = column.cast(pa.string())
        convert = Raw if field in self._literals else str
        return [
            UNSET if value is None else _plain(value, convert) for value in column.to_pylist(maps_as_pydicts="strict")
        ]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(value: Any, decimal: Callable[[str], Any] = str) -> Any:
    """Convert a Python value to one that msgspec encodes without any loss."""
    if isinstance(value, float):
        return value if isfinite(value) else Raw(str(value).encode())  # this is not JSON, so the row is refused
    if isinstance(value, Decimal):
        return decimal(format(value, "f"))
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _problem(kind: pa.DataType, *, nested: bool = False) -> str | None:
    """Return why the values of a type cannot become JSON, or None."""
    types = pa.types
    if types.is_dictionary(kind):
        return _problem(kind.value_type, nested=nested)
    if types.is_timestamp(kind) and kind.tz is None:
        return "times without a zone: convert them to UTC, with a zone"
    if types.is_timestamp(kind) and nested and kind.unit == "ns":
        return "nested times with nanoseconds"
    if types.is_nested(kind):
        if types.is_map(kind) and not _is_text(kind.key_type):
            return "a map whose keys are not texts"
        children = (kind.field(number).type for number in range(kind.num_fields))
        return next(filter(None, (_problem(child, nested=True) for child in children)), None)
    if types.is_time(kind):
        return "nested times of day" if nested else None
    known = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_date, types.is_timestamp)
    if any(check(kind) for check in (*known, types.is_null, _is_text)):
        return None
    return str(kind)


@contextmanager
def _reported() -> Iterator[None]:
    """Raise Refused, with the reason that Arrow gives, if the file is not Parquet."""
    try:
        yield
    except pa.ArrowException as failure:
        reason = str(failure).partition("\n")[0]
        raise Refused(f"The file cannot be read as Parquet: {reason}.") from failure
