"""Floods of forged tokens and unknown paths cost little. A tenant learns nothing about another."""

import base64
import gc
import json
import logging
import secrets
import sys
import tracemalloc
from typing import Any
from uuid import uuid4

import jwt
import pytest
from django.conf import settings
from django.contrib.auth.models import User

from datasets import services
from datasets.contracts import cache
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from tests.conftest import FIELDS, Api, record
from tests.support.sending.wire import Answer, call
from tests.support.servers.queries import queries_sent

FLOOD = 500


def forged(number: int, key: ApiKey) -> str:
    """Return a forged token. `number` chooses one of five kinds: the key's token with another signature, and others."""
    header, payload, _ = issue_token(key).split(".")
    kinds = (
        f"{header}.{payload}.{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}",
        jwt.encode({"jti": str(uuid4()), "project_id": number}, secrets.token_hex(32), algorithm="HS256"),
        jwt.encode({"jti": str(key.token_id), "project_id": key.project_id}, "", algorithm="none"),
        jwt.encode({"project_id": key.project_id}, secrets.token_hex(64), "HS512", headers={"kid": "../../dev/null"}),
        secrets.token_urlsafe(number % 3000 + 1),
    )
    return kinds[number % len(kinds)]


def send(token: str, dataset: int) -> Answer:
    return call(f"/datasets/{dataset}", HTTP_AUTHORIZATION=f"Bearer {token}", CONTENT_TYPE="application/json")


def test_forged_tokens_cost_no_query_and_no_memory(
    key: ApiKey, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(
        logging.CRITICAL, "ingest.monitoring.refusals"
    )  # pytest keeps log lines, which would count as the service's memory

    def flood(count: int) -> None:
        for number in range(count):
            assert send(forged(number, key), dataset.pk + number % 10).status == 401

    flood(200)  # lets the service create what it creates only once
    with queries_sent() as queries:
        tracemalloc.start()
        try:
            growth, before, floods = sys.maxsize, 0, 0
            # In the first floods, the memory grows because the interpreter keeps freed objects for reuse. If the
            # service kept a part of each token, the memory would grow with every flood.
            while growth > 10 * FLOOD and floods < 8:
                flood(FLOOD)
                gc.collect()
                after, _ = tracemalloc.get_traced_memory()
                growth, before, floods = after - before, after, floods + 1
        finally:
            tracemalloc.stop()
    assert len(queries) == 0
    assert cache.size() == 0
    assert growth <= 10 * FLOOD, "some of every token is kept"


def test_long_paths_and_media_types_take_no_memory(api: Api, dataset: Dataset) -> None:
    """The service caches only short paths and media types, and only a limited number. Long ones would fill memory."""

    def flood(count: int) -> None:
        for number in range(count):
            assert call(f"/datasets/{number}{'1' * 60_000}").status == 401
            long = f"application/json; x={'y' * 60_000}{number}"
            assert api.one(record(), Content_Type=long).status_code == 415

    flood(5)
    tracemalloc.start()
    try:
        flood(50)
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 1_000_000


def test_a_token_signed_in_another_way_is_refused(key: ApiKey, dataset: Dataset) -> None:
    """Another algorithm with our secret is refused, and so is another name for our algorithm."""
    claims = {"jti": str(key.token_id), "project_id": key.project_id}
    secret = settings.API_KEY_SECRET
    header = {"kid": "2", "jku": "https://evil.example/keys", "x5u": "https://evil.example/cert"}
    assert len(secret) >= 48
    assert send(jwt.encode(claims, secret, algorithm="HS384", headers=header), dataset.pk).status == 401
    assert send(jwt.encode(claims, secret, algorithm="HS256", headers=header), dataset.pk).status == 400  # no body
    _, payload, signature = jwt.encode(claims, secret, algorithm="HS256").split(".")
    names: list[Any] = [
        "none",
        "NONE",
        "RS256",
        "ES256",
        "PS256",
        "EdDSA",
        "HS256 ",
        "hs256",
        "",
        None,
        256,
        ["HS256"],
        {},
    ]
    for name in names:
        text = json.dumps({"alg": name, "typ": "JWT"}).encode()
        renamed = base64.urlsafe_b64encode(text).decode().rstrip("=")
        for last in (signature, ""):
            assert send(f"{renamed}.{payload}.{last}", dataset.pk).status == 401, name


def test_foreign_and_missing_datasets_get_the_same_answer(dataset: Dataset, api: Api) -> None:
    """The answers are equal in every byte except the request ID. This also holds for the second, cached request."""
    stranger = services.create_project(slug="stranger", owner=User.objects.create_user("stranger"))
    services.create_dataset(project=stranger, name="Theirs", fields=FIELDS)
    theirs = Api(issue_token(services.create_key(project=stranger, name="tests")), dataset)
    for suffix, body, headers in (
        ("", record(), {}),
        ("", b"{", {}),
        ("", record(), {"Content_Type": "text/plain"}),
        ("", record(), {"Content_Encoding": "br"}),
        ("", record(), {"Idempotency_Key": " "}),
        ("/batch", [record()], {}),
        ("/validate", record(), {}),
    ):
        answers = set()
        for _ in range(2):
            for number in (dataset.pk, dataset.pk + 1000):
                answer = theirs.post(f"/datasets/{number}{suffix}", body, **headers)
                others = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
                answers.add((answer.status_code, answer.content, json.dumps(others, sort_keys=True)))
        assert len(answers) == 1
        assert answers.pop()[0] == 404
    receipt = api.one(record()).headers["Location"]
    assert theirs.request("GET", receipt).status_code == 404
