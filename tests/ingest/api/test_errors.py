"""Every error of the API, with its status, text, code, details and headers."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest
from django.conf import settings

from config.common import clock, redis
from config.common.errors import ApiError
from datasets.models import Dataset
from ingest.errors import InvalidRecords
from ingest.queue import redis_keys
from ingest.validation.body import JSON
from quotas.services import set_limit
from tests.conftest import Api, record
from tests.ingest.api.browsers.errors import OF_BROWSER_KEYS
from tests.support.sending.asgi import exchange
from tests.support.sending.at_once import Threads
from tests.support.servers.outages import everything_in, own_client, redis_away, redis_full, writes_stuck

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
DATE_TIME = "RFC 3339 date-time with an offset"
MEDIA_TYPES = (
    "application/json or text/json, or on a batch application/x-ndjson or application/ndjson or application/jsonl or "
    "application/x-jsonlines or application/json-lines or application/x-json-stream; charset utf-8 or none"
)
NO_STRING = "A timestamp is a string, like 2026-06-10T10:58:00Z."
ONE_HOST = {"detail": "An HTTP/1.1 request needs one Host header."}
NO_BATCH = "A batch is one array of objects. Send it to /batch as application/json."
NOTHING_HAPPENED = {"detail": "Nothing was queued or charged."}
CHALLENGE = {"WWW-Authenticate": "Bearer"}

Send = Callable[[Api], httpx.Response]


@dataclass(frozen=True)
class Row:
    """An error, and a request that gets it."""

    status: int
    error: str
    code: str
    send: Send
    details: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def problem(error: str, code: str, expected: str, received: str, **place: Any) -> dict[str, Any]:
    """Return the details of a record error with this one problem."""
    details = {**place, "expected": expected, "received": received}
    return {**details, "errors": [{"error": error, "code": code, **details}]}


def dataset_of(api: Api) -> Dataset:
    assert api.dataset is not None
    return api.dataset


def one(body: Any, **headers: str) -> Send:
    return lambda api: api.one(body, **headers)


def batch(body: Any) -> Send:
    return lambda api: api.batch(body)


def with_token(token: str | None) -> Send:
    return lambda api: Api(token, api.dataset).one(record())


def get(path: str, **headers: str) -> Send:
    return lambda api: api.request("GET", path.format(id=dataset_of(api).pk), headers=headers)


def without_project_claim(api: Api) -> httpx.Response:
    return with_token(jwt.encode({"sub": "x"}, settings.API_KEY_SECRET, algorithm="HS256"))(api)


def same_key_at_once(api: Api) -> httpx.Response:
    with Threads() as pool, writes_stuck():
        both = [pool.submit(api.one, record(), Idempotency_Key="k") for _ in range(2)]
        done, _ = wait(both, return_when=FIRST_COMPLETED)
        return done.pop().result()


def same_key_with_another_body(api: Api) -> httpx.Response:
    assert api.one(record(), Idempotency_Key="k").status_code == 202
    return api.one(record(country="US"), Idempotency_Key="k")


def of_a_silent_sender(api: Api, *begun: bytes) -> httpx.Response:
    """Send these pieces of the body, and then nothing more."""
    before, settings.BODY_SILENCE_SECONDS = settings.BODY_SILENCE_SECONDS, 0.05
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": JSON, "Content-Length": "9"}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    path = f"/datasets/{dataset_of(api).pk}".encode()
    try:
        status, found, body = exchange("POST", path, [*encoded, (b"host", b"testserver")], iter([*begun, ...]))
    finally:
        settings.BODY_SILENCE_SECONDS = before
    return httpx.Response(status, headers=found, content=body)


def beyond_the_quota(api: Api) -> httpx.Response:
    set_limit(dataset_of(api).project.owner, 1000)
    assert api.batch([record()] * 998).status_code == 202
    return api.batch([record()] * 5)


def with_a_key_too_many(api: Api) -> httpx.Response:
    ends = int(time.time()) + 10_000
    project_id = dataset_of(api).project_id
    redis.client().hset(redis_keys.known_keys(project_id), mapping={str(ends): settings.IDEMPOTENCY_KEYS_PER_PROJECT})
    return api.one(record(), Idempotency_Key="k")


def without_memory(api: Api) -> httpx.Response:
    assert api.one(record()).status_code == 202
    with redis_full():
        return api.one(record())


def without_redis(api: Api) -> httpx.Response:
    with redis_away():
        return api.one(record())


def with_a_defect(api: Api) -> httpx.Response:
    dataset_of(api).versions.update(fields=[{"nonsense": ""}])
    return api.one(record())


TABLE = [
    Row(400, "Bad request", "bad_request", get("/healthz", Host="a,b"), ONE_HOST),
    Row(400, "Invalid dataset ID", "invalid_dataset_id", get("/datasets/1.5/receipts/x"), {"received": "1.5"}),
    Row(
        400,
        "Invalid JSON body",
        "invalid_json",
        one(b"{"),
        {"detail": "Line 1, column 2 (byte 1): the body ends before its value does."},
    ),
    Row(
        400,
        "Payload must be an object",
        "not_an_object",
        one([record()]),
        problem("Payload must be an object", "not_an_object", "object", "array", detail=NO_BATCH),
    ),
    Row(400, "Batch body must be a non-empty array", "invalid_batch", batch(record())),
    Row(
        400,
        "Invalid or missing timestamp",
        "invalid_timestamp",
        one(record(timestamp=...)),
        problem("Invalid or missing timestamp", "invalid_timestamp", DATE_TIME, "nothing", field="timestamp"),
    ),
    Row(
        400,
        "context must be an object",
        "invalid_context",
        one(record(context="{}")),
        problem("context must be an object", "invalid_context", "object", "string", field="context"),
    ),
    Row(
        400,
        "Extra field: extra",
        "extra_field",
        one(record(extra=1)),
        problem("Extra field: extra", "extra_field", "nothing", "number", field="extra"),
    ),
    Row(
        400,
        "Missing field: amount",
        "missing_field",
        batch([record(), record(amount=...)]),
        problem("Missing field: amount", "missing_field", "number", "nothing", index=1, field="amount"),
    ),
    Row(
        400,
        "Invalid string field: country",
        "invalid_field",
        one(record(country=40)),
        problem("Invalid string field: country", "invalid_field", "string", "number", field="country"),
    ),
    Row(
        400,
        "Invalid number field: amount",
        "invalid_field",
        one(record(amount="12.5")),
        problem("Invalid number field: amount", "invalid_field", "number", "string", field="amount"),
    ),
    Row(
        400,
        "Invalid boolean field: active",
        "invalid_field",
        one(record(active=1)),
        problem("Invalid boolean field: active", "invalid_field", "boolean", "number", field="active"),
    ),
    Row(
        400,
        "Invalid timestamp field: signup_at",
        "invalid_field",
        one(record(signup_at=None)),
        problem(
            "Invalid timestamp field: signup_at",
            "invalid_field",
            DATE_TIME,
            "null",
            field="signup_at",
            detail=NO_STRING,
        ),
    ),
    Row(
        400,
        "Idempotency-Key must be 1 to 255 visible ASCII characters",
        "invalid_idempotency_key",
        one(record(), Idempotency_Key="a b"),
    ),
    Row(401, "Missing API key", "missing_api_key", with_token(None), {}, CHALLENGE),
    Row(401, "Invalid API key", "invalid_api_key", with_token("nonsense"), {}, CHALLENGE),
    Row(401, "Project not found in API token claims", "missing_project_claim", without_project_claim, {}, CHALLENGE),
    Row(
        403,
        "Use a project API key, not a personal access token",
        "personal_access_token",
        with_token("pat_abc"),
        {
            "detail": "Personal access tokens work at /api/. To send records, use an API key of the project: make one "
            "in the admin, or with POST /api/keys/<project>."
        },
    ),
    *(Row(*each) for each in OF_BROWSER_KEYS),
    Row(404, "Dataset schema not found", "dataset_schema_not_found", lambda api: api.post("/datasets", record())),
    Row(404, "Receipt not found", "receipt_not_found", get("/datasets/{id}/receipts/x")),
    Row(404, "Not found", "not_found", get("/nowhere")),
    Row(405, "Method not allowed", "method_not_allowed", get("/datasets/{id}"), {}, {"Allow": "POST"}),
    Row(
        408,
        "Request body too slow",
        "body_too_slow",
        of_a_silent_sender,
        {"detail": "Nothing of the body came for 0.05 seconds."},
        {"Retry-After": "1"},
    ),
    Row(
        408,
        "Request body too slow",
        "body_too_slow",
        lambda api: of_a_silent_sender(api, b"{"),
        {"detail": "Nothing of the body came for 0.05 seconds."},
        {"Retry-After": "1"},
    ),
    Row(
        409,
        "Request with this Idempotency-Key is in progress",
        "idempotency_key_in_progress",
        same_key_at_once,
        {},
        {"Retry-After": "1"},
    ),
    Row(413, "Request body too large", "body_too_large", one(b" " * 10_485_761), {"limit": 10_485_760}),
    Row(413, "Batch has too many records", "too_many_records", batch([0] * 10_001), {"limit": 10_000}),
    Row(
        415,
        "Unsupported media type",
        "unsupported_media_type",
        one(b"", **{"Content-Type": "text/plain"}),
        {
            "expected": MEDIA_TYPES,
            "received": "text/plain",
            "detail": "This media type is not supported. Send “Content-Type: application/json”, or for NDJSON on a "
            "batch “Content-Type: application/x-ndjson”.",
        },
    ),
    Row(
        415,
        "Unsupported content encoding",
        "unsupported_content_encoding",
        one(b"", Content_Encoding="br"),
        {
            "expected": "identity, gzip, deflate or zstd",
            "received": "br",
            "detail": "Compress the body once, with gzip, deflate or zstd, or send it without a Content-Encoding "
            "header.",
        },
    ),
    Row(422, "Idempotency-Key was used with a different body", "idempotency_key_reused", same_key_with_another_body),
    Row(
        429,
        "Monthly dataset quota exceeded",
        "quota_exceeded",
        beyond_the_quota,
        {
            "quota": {
                "limit": 1000,
                "used": 998,
                "requested": 5,
                "remaining": 2,
                "period": "2026-11",
                "resets_at": "2026-12-01T00:00:00Z",
            }
        },
        {
            "Retry-After": "3600",
            "RateLimit-Policy": '"monthly";q=1000;w=2592000',
            "RateLimit": '"monthly";r=2;t=594000',
        },
    ),
    Row(
        429,
        "Too many Idempotency-Keys",
        "too_many_idempotency_keys",
        with_a_key_too_many,
        {
            "limit": 1_000_000,
            "detail": "The project has used 1000000 Idempotency-Keys, which is the limit. Send without a key, "
            "or wait until the oldest are forgotten. Nothing was queued or charged.",
        },
        {"Retry-After": "3600"},
    ),
    Row(500, "Internal error", "internal_error", with_a_defect),
    Row(
        503,
        "Ingest queue is full",
        "queue_full",
        without_memory,
        {"detail": "Redis has no memory for a longer backlog. Nothing was queued or charged."},
        {"Retry-After": "5"},
    ),
    Row(503, "Ingest queue unavailable", "queue_unavailable", without_redis, NOTHING_HAPPENED, {"Retry-After": "1"}),
]
OF_EVERY_ANSWER = {"content-type", "content-length", "x-request-id", "connection"}
OF_THE_ADMINS_STACK = {
    "content-security-policy",
    "cross-origin-opener-policy",
    "referrer-policy",
    "vary",
    "x-content-type-options",
    "x-frame-options",
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.error)
def test_a_refusal_says_what_the_table_says(row: Row, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    response = row.send(api)
    assert response.status_code == row.status
    assert response.json() == {"error": row.error, "code": row.code, **row.details}
    assert list(response.json())[:2] == ["error", "code"]
    assert response.headers["Content-Type"] == "application/json"
    assert len(response.headers["X-Request-Id"]) == 32
    others = set(response.headers) - OF_EVERY_ANSWER - OF_THE_ADMINS_STACK
    assert {name: response.headers[name] for name in others} == {
        name.lower(): row.headers[name] for name in row.headers
    }


def test_the_table_has_every_refusal_that_the_code_knows() -> None:
    def known(kind: type[ApiError]) -> Iterator[tuple[int, str, str]]:
        for each in kind.__subclasses__():
            yield from known(each)
        of_management = kind.__module__.startswith("datasets.api.")
        if kind is not InvalidRecords and not of_management:  # InvalidRecords has the code of its first problem
            yield kind.status, kind.error, kind.code

    assert set(known(ApiError)) <= {(row.status, row.error, row.code) for row in TABLE}


def test_refused_request_is_neither_queued_nor_charged(api: Api) -> None:
    assert api.one(record()).status_code == 202
    before = everything_in(own_client())
    for row in TABLE:
        if row.status < 429 and row.status not in (409, 422):  # these rows also send a request that is accepted
            assert row.send(api).status_code == row.status
            assert everything_in(own_client()) == before, row.error
