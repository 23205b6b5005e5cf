"""`/healthz`, `/readyz`: each thing that ingest needs is named where it is missing."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from config import redis
from ingest import health, redis_keys
from tests.conftest import Api
from tests.ingest.outages import database_away, redis_away

pytestmark = pytest.mark.django_db(transaction=True)


def look(path: str) -> tuple[int, dict[str, Any]]:
    response = Api(None).request("GET", path)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"]
    return response.status_code, response.json()


def ready() -> tuple[int, dict[str, str]]:
    """Status and checks."""
    status, answer = look("/readyz")
    assert answer["status"] == ("ok" if status == 200 else "unavailable")
    checks: dict[str, str] = answer["checks"]
    return status, checks


ALL_OK = {"redis": "ok", "database": "ok", "worker": "ok", "storage": "ok"}


@pytest.mark.parametrize("slash", ["", "/"])
def test_it_lives(slash: str) -> None:
    assert look(f"/healthz{slash}") == (200, {"status": "ok"})


def test_it_lives_without_anything_to_lean_on() -> None:
    with redis_away(), database_away():
        assert look("/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize("slash", ["", "/"])
def test_it_is_ready_once_a_worker_has_given_a_sign(slash: str) -> None:
    assert look(f"/readyz{slash}")[0] == 503
    health.beat()
    assert look(f"/readyz{slash}") == (200, {"status": "ok", "checks": ALL_OK})


def test_it_names_the_worker() -> None:
    assert ready() == (
        503,
        {**ALL_OK, "worker": "no sign of life for 60 seconds", "storage": "unknown: no worker"},
    )


def test_who_asks_too_early_is_told_when_to_ask_again() -> None:
    assert Api(None).request("GET", "/readyz").headers["Retry-After"] == "5"
    health.beat()
    assert "Retry-After" not in Api(None).request("GET", "/readyz").headers


def test_it_names_redis() -> None:
    health.beat()
    with redis_away():
        status, checks = ready()
    assert status == 503
    assert checks == {
        "redis": "no answer",
        "database": "ok",
        "worker": "unknown: redis gives no answer",
        "storage": "unknown: no worker",
    }
    assert ready()[0] == 200


def test_it_names_the_database() -> None:
    health.beat()
    with database_away():
        status, checks = ready()
    assert (status, checks) == (503, {**ALL_OK, "database": "no answer"})
    assert ready()[0] == 200


def test_it_names_the_storage(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("a disk that is broken")
    health.beat()
    status, checks = ready()
    assert status == 503
    assert checks["storage"] != "ok"
    assert {name: state for name, state in checks.items() if name != "storage"} == {
        "redis": "ok",
        "database": "ok",
        "worker": "ok",
    }


def test_it_names_an_object_store_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(settings, "STORAGE_URL", "s3://nowhere/tables")
    monkeypatch.setattr(settings, "STORAGE_IS_LOCAL", False)
    health.beat()
    assert ready() == (503, {**ALL_OK, "storage": "unavailable: OSError"})


def test_a_worker_that_is_gone_is_missed_after_a_minute() -> None:
    health.beat()
    assert 55_000 < redis.client().pttl(redis_keys.HEARTBEAT) <= 60_000


def test_it_tells_how_old_the_last_sign_is() -> None:
    assert health.heartbeat_age() is None
    health.beat()
    age = health.heartbeat_age()
    assert age is not None
    assert 0 <= age < 30
    redis.client().set(redis_keys.HEARTBEAT, json.dumps({"at": time.time() - 40, "storage": "ok"}))
    age = health.heartbeat_age()
    assert age is not None
    assert 40 <= age < 70


def test_it_says_nothing_of_a_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3://user:password@nowhere/secret-bucket"
    monkeypatch.setattr(settings, "STORAGE_URL", secret)
    monkeypatch.setattr(settings, "STORAGE_IS_LOCAL", False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    health.beat()
    assert "secret" not in json.dumps(ready())
