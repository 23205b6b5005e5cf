"""`POST /datasets/<id>/validate`: the same answer as ingest, without any effect."""

import json

from datasets import services
from datasets.models import ApiKey, Dataset
from datasets.schemas.fields import Field
from quotas.services import set_limit
from tests.conftest import FIELDS, Api, record
from tests.support.servers.outages import everything_in, own_client

NDJSON = "application/x-ndjson"
WRONG = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b"[ ]",
    b"17",
    b"null",
    b"{}",
    b"[{}]",
    b"[1, {}]",
    json.dumps(record(amount="x")).encode(),
    json.dumps([record(), record(extra=1), record(active=...)]).encode(),
    json.dumps([1] * 50).encode(),
    json.dumps([record()] * 10_001).encode(),
]


def test_it_accepts_an_object_or_an_array_or_lines(api: Api, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.pk}/validate"
    line = json.dumps(record())
    for body, content_type, count in (
        (line, "application/json", 1),
        (f"\n\t {line}", "application/json", 1),
        (f"[{line}]", "application/json", 1),
        (f" \r\n[{line}, {line}]", "application/json", 2),
        (f"{line}\n{line}\n\n{line}", NDJSON, 3),
    ):
        response = api.post(path, body, content_type)
        assert (response.status_code, response.json()) == (200, {"valid": True, "count": count})
        assert response.content == b'{"valid":true,"count":%d}' % count
        assert "Location" not in response.headers


def test_validate_refuses_with_the_same_answer_as_ingest(api: Api, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.pk}"
    for body in WRONG:
        ingest = api.batch(body) if body.lstrip().startswith(b"[") else api.one(body)
        validate = api.post(f"{path}/validate", body)
        assert validate.status_code == ingest.status_code >= 400
        assert validate.content == ingest.content, body[:50]
        lines = api.post(f"{path}/batch", body, NDJSON), api.post(f"{path}/validate", body, NDJSON)
        assert lines[0].status_code == lines[1].status_code >= 400
        assert lines[0].content == lines[1].content, body[:50]


def test_it_charges_and_queues_nothing(api: Api, dataset: Dataset) -> None:
    assert api.one(record()).status_code == 202
    before = everything_in(own_client())
    for body in (record(), [record()] * 100, record(amount="x"), [record(), 1], b"["):
        api.post(f"/datasets/{dataset.pk}/validate", body, Idempotency_Key="k")
    assert everything_in(own_client()) == before


def test_validate_ignores_the_quota(api: Api, dataset: Dataset) -> None:
    set_limit(dataset.project.owner, 0)
    assert api.one(record()).status_code == 429
    assert api.post(f"/datasets/{dataset.pk}/validate", record()).json() == {"valid": True, "count": 1}


def test_validate_uses_a_changed_schema_immediately(api: Api, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.pk}/validate"
    assert api.post(path, record()).status_code == 200
    services.save_dataset(dataset, fields=[*FIELDS, Field("source", "string")])
    assert api.post(path, record()).json()["error"] == "Missing field: source"
    assert api.post(path, record(source="web")).status_code == 200


def test_validate_refuses_a_revoked_key_immediately(api: Api, dataset: Dataset, key: ApiKey) -> None:
    path = f"/datasets/{dataset.pk}/validate"
    assert api.post(path, record()).status_code == 200
    services.revoke_key(key)
    assert api.post(path, record()).status_code == 401


def test_a_receipt_is_not_shown_to_a_revoked_key(api: Api, key: ApiKey) -> None:
    receipt = api.one(record()).headers["Location"]
    assert api.request("GET", receipt).status_code == 200
    services.revoke_key(key)
    assert api.request("GET", receipt).status_code == 401
