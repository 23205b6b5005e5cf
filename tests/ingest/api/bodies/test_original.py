"""The examples of the original description. Only the address and the key differ."""

from typing import Any

import pytest

from datasets import services
from datasets.models import Dataset, Project
from datasets.schemas.fields import Field
from tests.conftest import Api, stored

SINGLE = """{
"timestamp": "2026-06-10T10:58:00Z",
"context": {
"source": "billing-service",
"request_id": "req_123"
},
"country": "RO",
"plan": "pro",
"amount": 42.5,
"active": true,
"signup_at": "2026-06-01T08:00:00Z"
}"""

BATCH = """[
{
"timestamp": "2026-06-10T11:00:00Z",
"context": { "source": "billing-service" },
"country": "RO",
"plan": "pro",
"amount": 20,
"active": true,
"signup_at": "2026-06-01T08:00:00Z"
},
{
"timestamp": "2026-06-10T11:01:00Z",
"context": { "source": "billing-service" },
"country": "US",
"plan": "free",
"amount": 5,
"active": false,
"signup_at": "2026-06-02T08:00:00Z"
}
]"""

VALID = """{
"timestamp": "2026-06-10T10:00:00Z",
"context": {},
"country": "RO",
"amount": 12.5,
"active": true
}"""
AMOUNT_IS_TEXT = VALID.replace("12.5", '"12.5"')
EXTRA = VALID.replace('"active": true', '"active": true,\n"extra": "not allowed"')


def test_it_queues_the_single_record(api: Api, dataset: Dataset) -> None:
    response = api.one(SINGLE, X_Request_Id="req_123")
    assert (response.status_code, response.json()) == (202, {"success": True, "status": "queued"})
    assert response.content == b'{"success":true,"status":"queued"}'
    (row,) = stored(dataset)
    assert row["__traceId"] == "req_123"
    assert row["amount"] == 42.5
    assert row["context"] == '{\n"source": "billing-service",\n"request_id": "req_123"\n}'


def test_it_queues_the_batch(api: Api, dataset: Dataset) -> None:
    response = api.batch(BATCH)
    assert (response.status_code, response.json()) == (202, {"success": True, "count": 2, "status": "queued"})
    assert [(row["country"], row["amount"], row["active"]) for row in stored(dataset)] == [
        ("RO", 20.0, True),
        ("US", 5.0, False),
    ]


@pytest.fixture
def payload_rules(api: Api, project: Project) -> Api:
    fields = [Field("country", "string"), Field("amount", "number"), Field("active", "boolean")]
    api.dataset = services.create_dataset(project=project, name="Payload rules", fields=fields)
    return api


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (VALID, 202, None),
        (AMOUNT_IS_TEXT, 400, "Invalid number field: amount"),
        (EXTRA, 400, "Extra field: extra"),
    ],
)
def test_it_keeps_the_payload_rules(payload_rules: Api, body: str, status: int, error: str | None) -> None:
    response = payload_rules.one(body)
    answer: dict[str, Any] = response.json()
    assert (response.status_code, answer.get("error")) == (status, error)
