"""A record whose receipt says `stored` is found by every later query, while tables are compacted and vacuumed.

A normal run has 30 rounds; `python -m tests.datasets.queries fresh` has 1,000.
"""

import os
import random
from datetime import UTC, datetime
from functools import partial

import httpx

from config.common import redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Project
from datasets.schemas.fields import Field
from ingest.queue import redis_keys
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.datasets.queries.oracle.asking import ask
from tests.support.entries import status, table_of
from tests.support.processes.crashing import running, start, tidy_for_ever, wait_until

ROUNDS = int(os.environ.get("ROUNDS", "30"))


def drain_for_ever(dataset_id: int) -> None:
    """Drain a dataset each time its queue has entries, as workers do, until the process is killed."""
    while True:
        wait_until(lambda: redis.client().xlen(redis_keys.stream(dataset_id)), seconds=3600)
        drain(dataset_id)


def is_stored(api: Api, accepted: httpx.Response) -> bool:
    return bool(status(api, accepted)["status"] == "stored")


def test_a_query_finds_what_a_receipt_says_is_stored(project: Project) -> None:
    dataset = services.create_dataset(project=project, name="Orders", fields=[Field("number", "integer")])
    api = Api(issue_token(services.create_key(project=project, name="k")), dataset)
    sent = 0
    with running(start(drain_for_ever, dataset.pk), start(tidy_for_ever)):
        for number in range(ROUNDS):
            batch = [
                {"timestamp": datetime.now(UTC).isoformat(), "context": {}, "number": number}
                for _ in range(random.randint(1, 5))
            ]
            answer = api.batch(batch)
            assert answer.status_code == 202
            sent += len(batch)
            wait_until(partial(is_stored, api, answer))
            query = {
                "select": [{"aggregate": "count"}, {"aggregate": "count_distinct", "field": "id", "as": "different"}],
                "where": [{"field": "number", "op": "<=", "value": number}],
            }
            (row,) = ask(dataset, query)["rows"]
            assert row == {"count": sent, "different": sent}, f"round {number}"
    operations = [entry["operation"] for entry in table_of(dataset).history()]
    assert "OPTIMIZE" in operations
