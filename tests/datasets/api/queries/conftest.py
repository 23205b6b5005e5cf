"""A dataset with stored records, and a client that queries it."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from config.common import clock
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from tests.conftest import Api, stored
from tests.datasets.api.conftest import Management, alice, client, client_of, error_of, shop

__all__ = ["alice", "client", "client_of", "error_of", "shop"]

FIELDS = [
    Field("country", "string"),
    Field("plan", "enum", values=("free", "pro")),
    Field("amount", "number"),
    Field("price", "decimal(10,2)", optional=True),
    Field("visits", "integer", optional=True),
    Field("active", "boolean"),
    Field("note", "json", optional=True),
]


@pytest.fixture(autouse=True)
def patience(settings: Settings) -> None:
    """Let queries take long: they run with a low priority, so other tests delay them."""
    settings.QUERY_TIMEOUT_SECONDS = 60.0


def sent(**changes: Any) -> dict[str, Any]:
    """Return a record whose timestamp is an hour ago. `changes` are the fields with other values."""
    at = (clock.now() - timedelta(hours=1)).isoformat()
    whole = {"timestamp": at, "context": {"source": "shop"}, "country": "RO", "plan": "pro", "amount": 42.5}
    return {**whole, "active": True, **changes}


class Queries:
    """Sends records to a dataset, and queries it."""

    def __init__(self, client: Management, dataset: Dataset) -> None:
        self.client, self.dataset = client, dataset
        self.path = f"/datasets/{dataset.project.slug}/{dataset.pk}/query"
        self.sender = Api(issue_token(services.create_key(project=dataset.project, name="tests")), dataset)

    def store(self, *records: dict[str, Any]) -> None:
        """Send records, and store them."""
        assert self.sender.batch(list(records)).status_code == 202
        stored(self.dataset)

    def ask(self, query: Any, **headers: str) -> httpx.Response:
        return self.client.call("POST", self.path, query, **headers)

    def ok(self, query: Any) -> Any:
        """Return the result of a query that must succeed."""
        response = self.ask(query)
        assert response.status_code == 200, response.text
        return response.json()

    def rows(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ok(query)["rows"]
        return found


@pytest.fixture
def queries(client: Management, shop: Project) -> Queries:
    return Queries(client, services.create_dataset(project=shop, name="Orders", fields=FIELDS))
