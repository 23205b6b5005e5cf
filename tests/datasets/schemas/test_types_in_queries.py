"""The tables of queries know each field type. A new type without an entry fails here."""

import duckdb
import pyarrow as pa
import pytest

from datasets.queries.columns import OPERATORS
from datasets.queries.execution import filters, sql
from datasets.queries.execution.results import arrow_type
from datasets.queries.query import Column
from datasets.schemas.field_types import FIELD_TYPES

TYPES = [name.replace("(p,s)", "(10,2)") for name in FIELD_TYPES]


@pytest.mark.parametrize("name", TYPES)
def test_duckdb_gives_a_column_the_type_that_sql_expects(name: str) -> None:
    empty = pa.table({"x": pa.array([], arrow_type(name))})
    with duckdb.connect() as connection:
        connection.register("empty", empty)
        stored = connection.execute("SELECT x FROM empty").description
        expected = connection.execute(f"SELECT CAST(NULL AS {sql.duckdb_type(name)})").description
    assert stored
    assert expected
    assert stored[0][1] == expected[0][1]


@pytest.mark.parametrize("name", TYPES)
def test_a_type_has_operators_and_a_literal_in_filters(name: str) -> None:
    column = Column("x", name)
    if OPERATORS[column.kind]:  # otherwise, no condition can compare a value with the column
        assert "arrow_cast" in filters._literal(column, 1)
