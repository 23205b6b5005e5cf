"""Fixtures of the tests of tables."""

import pytest

from datasets.tables.table import DatasetTable
from tests.support.tables import FIELDS


@pytest.fixture
def table() -> DatasetTable:
    """An empty table."""
    table = DatasetTable(7, 13)
    table.create(FIELDS)
    return table
