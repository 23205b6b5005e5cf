"""docs/queries.md: its examples give the answers that the page shows, and its tables match the code."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from datasets.queries.columns import AGGREGATES, NULL_OPERATORS, OPERATORS, SYSTEM_COLUMNS
from datasets.queries.errors import InvalidQuery
from datasets.queries.parsing import conditions, outputs, values
from datasets.schemas.declarations import read_fields
from datasets.tables import exports
from tests.datasets.queries.conftest import Store, at
from tests.support.documents import ROOT, table

TEXT = (ROOT / "docs" / "queries.md").read_text()
BLOCK = r"```json\n([^`]+)\n```"
EXAMPLES = re.findall(rf"{BLOCK}\n\nRows:\n\n{BLOCK}", TEXT)
NAMES = re.compile(r"`([^`]+)`")


@pytest.fixture
def documented(store: Store) -> Store:
    """The dataset of the page."""
    fields = read_fields(re.findall(BLOCK, TEXT, re.DOTALL)[0])
    records = re.findall(r"```ndjson\n(.+?)\n```", TEXT, re.DOTALL)[0].splitlines()
    rows: list[dict[str, Any]] = [json.loads(each) for each in records]
    store.add(fields, *({**row, "context": "{}", "timestamp": at(row["timestamp"])} for row in rows))
    return store


def in_json(store: Store, query: str) -> Any:
    batches = store.run(**json.loads(query)).rows.to_batches()
    return json.loads(msgspec.json.encode([row for batch in batches for row in exports.rows(batch)]))


def test_each_example_gives_the_rows_that_are_shown(documented: Store) -> None:
    assert len(EXAMPLES) == TEXT.count("\nRows:\n") >= 6
    for query, expected in EXAMPLES:
        assert in_json(documented, query) == json.loads(expected), query


def test_the_wrong_query_has_the_problem_that_is_shown(documented: Store) -> None:
    ((query, problem),) = re.findall(rf"{BLOCK}\n\nProblem:\n\n{BLOCK}", TEXT)
    with pytest.raises(InvalidQuery) as refused:
        documented.query(**json.loads(query))
    assert [each.as_json() for each in refused.value.problems] == [json.loads(problem)]


def test_the_columns_are_those_of_the_code() -> None:
    shown = [(name.strip("`"), kind) for name, kind, _ in table("query-columns")]
    assert shown == [(each.name, each.type.replace("context", "json")) for each in SYSTEM_COLUMNS]


def test_the_operators_are_those_of_the_code() -> None:
    *typed, nulls = table("query-operators")
    shown = {kind: tuple(NAMES.findall(ops)) for kinds, ops in typed for kind in NAMES.findall(kinds) or ["array"]}
    assert shown == {kind: ops for kind, ops in OPERATORS.items() if ops}
    assert tuple(NAMES.findall(nulls[1])) == NULL_OPERATORS


def test_the_aggregates_are_those_of_the_code() -> None:
    assert [name for row in table("query-aggregates") for name in NAMES.findall(row[0])] == list(AGGREGATES)


def test_the_limits_are_those_of_the_code() -> None:
    sizes = [conditions.MAX_CONDITIONS, outputs.MAX_SELECTED, outputs.MAX_GROUPS, outputs.MAX_ORDERS]
    assert sizes == [50, 250, 10, 10]
    assert (conditions.MAX_VALUES, values.MAX_CHARACTERS) == (1000, 10_000)
    assert "at most 50 conditions, 250 columns, 10 names in `groupBy` and 10 in `orderBy`" in TEXT
