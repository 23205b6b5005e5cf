"""`/healthz` and `/readyz`: each missing part of the service is reported by name."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from config.common import redis
from ingest.monitoring import heartbeat
from ingest.queue import redis_keys
from tests.conftest import Api
from tests.support.processes.signs import all_is_well
from tests.support.servers.outages import database_away, redis_away

pytestmark = pytest.mark.django_db(transaction=True)


def look(path: str) -> tuple[int, dict[str, Any]]:
    response = Api(None).request("GET", path)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"]
    return response.status_code, response.json()


def ready() -> tuple[int, dict[str, str]]:
    """Return the status and the checks of `/readyz`."""
    status, answer = look("/readyz")
    assert answer["status"] == ("ok" if status == 200 else "unavailable")
    checks: dict[str, str] = answer["checks"]
    return status, checks


ALL_OK = dict.fromkeys(("redis", "database", "worker", "upkeep", "beat", "storage"), "ok")


@pytest.mark.parametrize("slash", ["", "/"])
def test_healthz_is_ok(slash: str) -> None:
    assert look(f"/healthz{slash}") == (200, {"status": "ok"})


def test_healthz_is_ok_without_redis_and_database() -> None:
    with redis_away(), database_away():
        assert look("/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize("slash", ["", "/"])
def test_readyz_is_ok_when_every_heartbeat_is_there(slash: str) -> None:
    assert look(f"/readyz{slash}")[0] == 503
    all_is_well()
    assert look(f"/readyz{slash}") == (200, {"status": "ok", "checks": ALL_OK})


@pytest.mark.parametrize("process", heartbeat.PROCESSES)
def test_readyz_reports_the_missing_process_only(process: str) -> None:
    all_is_well()
    redis.client().delete(redis_keys.heartbeat(process))
    assert ready() == (503, {**ALL_OK, process: "no heartbeat for 60 seconds"})


def test_readyz_reports_a_storage_that_no_worker_has_checked() -> None:
    for process in heartbeat.PROCESSES:
        heartbeat.write(process)
    assert ready() == (503, {**ALL_OK, "storage": "unknown: no worker has checked it for 60 seconds"})


def test_readyz_shows_what_a_process_reports() -> None:
    all_is_well()
    heartbeat.write("worker", "busy with the same tasks for 75 seconds")
    assert ready() == (503, {**ALL_OK, "worker": "busy with the same tasks for 75 seconds"})


def test_readyz_sends_retry_after_with_503() -> None:
    assert Api(None).request("GET", "/readyz").headers["Retry-After"] == "5"
    all_is_well()
    assert "Retry-After" not in Api(None).request("GET", "/readyz").headers


def test_readyz_reports_redis() -> None:
    all_is_well()
    with redis_away():
        status, checks = ready()
    assert status == 503
    assert checks == {**dict.fromkeys(ALL_OK, "unknown: Redis does not answer"), "redis": "no answer", "database": "ok"}
    assert ready()[0] == 200


def test_readyz_reports_the_database() -> None:
    all_is_well()
    with database_away():
        status, checks = ready()
    assert (status, checks) == (503, {**ALL_OK, "database": "no answer"})
    assert ready()[0] == 200


def test_readyz_reports_the_storage(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("a disk that is broken")
    all_is_well()
    status, checks = ready()
    assert status == 503
    assert checks["storage"] != "ok"
    assert {**checks, "storage": "ok"} == ALL_OK


def test_readyz_reports_an_object_store_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(settings, "STORAGE_URL", "s3://nowhere/tables")
    all_is_well()
    assert ready() == (503, {**ALL_OK, "storage": "unavailable: OSError"})


def test_heartbeat_expires_after_a_minute() -> None:
    all_is_well()
    for process in heartbeat.PROCESSES:
        assert 55_000 < redis.client().pttl(redis_keys.heartbeat(process)) <= 60_000


def test_age_of_a_heartbeat_does_not_depend_on_the_clock_here(monkeypatch: pytest.MonkeyPatch) -> None:
    all_is_well()
    redis.client().pexpire(redis_keys.heartbeat("beat"), 20_000)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    beat = heartbeat.read()["beat"]
    assert beat is not None
    assert 40 <= beat.age < 60


def test_heartbeat_that_would_last_too_long_does_not_count() -> None:
    """A process wrote the heartbeat before a failover to a server with a late clock, and may have died since."""
    all_is_well()
    redis.client().pexpire(redis_keys.heartbeat("beat"), 3_660_000)
    assert heartbeat.read()["beat"] is None


def test_metrics_report_each_process() -> None:
    all_is_well()
    redis.client().delete(redis_keys.heartbeat("upkeep"))
    lines = Api(None).request("GET", "/metrics").text.splitlines()
    assert 'ingest_process_ok{process="beat"} 1.0' in lines
    assert 'ingest_process_ok{process="upkeep"} 0.0' in lines
    ages = {line.split('"')[1]: float(line.split()[1]) for line in lines if line.startswith("ingest_heartbeat_age")}
    assert ages.keys() == {"worker", "beat", "storage"}
    assert max(ages.values()) < 30


def test_readyz_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3://user:password@nowhere/secret-bucket"
    monkeypatch.setattr(settings, "STORAGE_URL", secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    all_is_well()
    assert "secret" not in json.dumps(ready())
