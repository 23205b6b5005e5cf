"""Check the rows that DuckDB returns, and give their columns the names and types of the result."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from datasets.queries.errors import QueryProblem, ResultOutOfRange
from datasets.queries.query import Output
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field


def checked(rows: pa.Table, select: Sequence[Output]) -> pa.Table:
    """Return the rows with the names and Arrow types of the selected columns.

    Raises:
        ResultOutOfRange: A number is not finite, or does not fit into its type.
    """
    columns = [
        _column(rows.column(number).combine_chunks(), output, f"select[{number}]")
        for number, output in enumerate(select)
    ]
    return pa.table(columns, names=[each.name for each in select])


def _column(found: pa.Array, output: Output, at: str) -> pa.Array:
    kind = arrow_type(output.type)
    try:
        column = found.cast(kind)
    except pa.ArrowInvalid as failure:
        raise _out_of_range(output, at) from failure
    if pa.types.is_floating(kind) and pc.all(pc.is_finite(column)).as_py() is False:
        raise _out_of_range(output, at)
    if pa.types.is_decimal(kind) and any(_digits(each) > kind.precision for each in column.to_pylist()):
        raise _out_of_range(output, at)
    return column


def arrow_type(type_name: str) -> pa.DataType:
    """Return the Arrow type of a result's type."""
    return pa.string() if type_name == "enum" else type_of(Field("", type_name)).arrow()


def _digits(number: Decimal | None) -> int:
    return 0 if number is None else len(number.as_tuple().digits)


def _out_of_range(output: Output, at: str) -> ResultOutOfRange:
    detail = f"A value of “{output.name}” is beyond the range of its type, {output.type}. Select fewer rows."
    return ResultOutOfRange([QueryProblem(at, f"results of the type {output.type}", "a larger value", detail)])
