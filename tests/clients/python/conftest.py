"""Let the tests import the client from its wheel."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from tests.clients.python.artifact import environment, packages
from tests.support.sending.asgi import Transport

sys.path.insert(0, str(packages(environment())))

from dataset_ingest import DatasetIngestClient

FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}

MakeClient = Callable[..., DatasetIngestClient]


@pytest.fixture
def arguments(key: ApiKey, dataset: Dataset) -> dict[str, Any]:
    """Return the arguments for a client of the application in this process."""
    return {
        "base_url": "http://testserver",
        "api_key": issue_token(key),
        "dataset": {"id": dataset.pk, "fields": FIELDS},
        "transport": Transport(),
        "close_timeout": 0.5,
        "min_backoff": 0.01,
        "flush_interval": 0.05,
    }


@pytest.fixture
def make_client(arguments: dict[str, Any]) -> Iterator[MakeClient]:
    """Make clients of the application in this process. They are closed after the test."""
    made: list[DatasetIngestClient] = []

    def make(**options: Any) -> DatasetIngestClient:
        client = DatasetIngestClient(**{**arguments, **options})
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
