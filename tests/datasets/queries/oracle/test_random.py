"""Random queries give the results that plain Python computes from the sent records.

A normal run asks 160 queries. `python -m tests.datasets.queries random` asks 2,000.
"""

import json
import os
import random
from datetime import UTC, datetime

import pytest

from datasets import services
from datasets.models import Dataset, Project
from tests.conftest import Api
from tests.datasets.queries.oracle import evolving, flights
from tests.datasets.queries.oracle.asking import ask
from tests.datasets.queries.oracle.comparing import differences, rows_of, wrong_rows
from tests.datasets.queries.oracle.engine import Expected, Query, Row, answer
from tests.datasets.queries.oracle.generating import Generator, described
from tests.datasets.queries.oracle.table import Table

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
QUERIES = int(os.environ.get("QUERIES", "160")) // 2  # for each of the two tables
EVERY = 97  # the table has every 97th flight, so about 3,500 flights


def by_pages(dataset: Dataset, query: Query, expected: Expected) -> list[Row]:
    """Return the rows of all pages. There are about four pages."""
    asked = {**query, "limit": min(len(expected.rows) // 4 + 1, 1000)}
    page = ask(dataset, asked)
    rows = rows_of(page, expected)
    while "cursor" in page:
        page = ask(dataset, {**asked, "cursor": page["cursor"]})
        rows += rows_of(page, expected)
    assert len(rows) == len(expected.rows)
    return rows


@pytest.mark.parametrize("name", ["flights", "evolving"])
def test_random_queries_give_what_the_records_give(api: Api, project: Project, name: str) -> None:
    print(f"seed {SEED}")
    chance = random.Random(f"{SEED} {name}")
    dataset = services.create_dataset(project=project, name=name)
    table = Table(api, dataset)
    if name == "flights":
        flights.store(table, EVERY)
    else:
        evolving.store(table, chance, datetime.now(UTC))
    source = table.source()
    generator = Generator(source, chance)
    queries = [generator.query() for _ in range(QUERIES)]
    wrong = []
    for number, query in enumerate(queries):
        expected = answer(query, source, datetime.now(UTC))
        found = differences(ask(dataset, query), expected)
        if number % 10 == 0 and not found and expected.is_plain:
            found = wrong_rows(by_pages(dataset, query, expected), expected)
        if found:
            wrong.append("\n".join([f"query {number} of seed {SEED}: {json.dumps(query)}", *found]))
    print(described(queries))
    assert not wrong, f"{len(wrong)} of {len(queries)} answers are wrong:\n" + "\n\n".join(wrong[:10])
