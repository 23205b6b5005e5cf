"""System checks say what is wrong and what to do. The documented production has no issues."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from pytest_django import Settings

from config.checks import check_machines, check_redis, check_settings
from config.common.env import BASE_DIR
from tests.support.documents import ROOT
from tests.support.servers import sentinels
from tests.support.servers.cluster import cluster, use
from tests.support.servers.outages import own_client, redis_away
from tests.support.servers.plugin import RedisServer


def ids(found: list[CheckMessage]) -> list[str | None]:
    assert all(message.msg and message.hint for message in found)
    return [message.id for message in found]


def test_the_defaults_have_no_issues() -> None:
    assert ids(check_settings()) == []


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("API_KEY_SECRET", "x" * 31, "config.E001"),
        ("BACKLOG_LIMIT_BYTES", django_settings.MAX_BODY_BYTES * 2 - 1, "config.E002"),
        ("MAX_BATCH_RECORDS", 100_001, "config.E003"),
        ("REDIS_URL", "localhost:6379", "config.E004"),
        ("BODY_MEMORY_BYTES", 4 * django_settings.MAX_BODY_BYTES - 1, "config.E006"),
        ("DRAIN_LEASE_SECONDS", 4.9, "config.W001"),
    ],
)
def test_the_checks_name_a_wrong_setting(settings: Settings, name: str, value: object, found: str) -> None:
    setattr(settings, name, value)
    assert ids(check_settings()) == [found]


def test_the_checks_name_what_machines_do_not_share(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SECRET_KEY_IS_EMBEDDED = True
    settings.STORAGE_URL = "/srv/tables"
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    for url in ("redis://localhost:6379/0", "unix:///run/redis.sock?db=0", "redis://127.0.0.1/0"):
        settings.REDIS_URL = url
        assert ids(check_machines()) == []
    for url in ("redis://redis:6379/0", "redis+sentinel://one,two,three/service"):
        settings.REDIS_URL = url
        assert ids(check_machines()) == ["config.W002", "config.W003", "config.W004"]

    settings.SECRET_KEY_IS_EMBEDDED = False
    settings.STORAGE_URL = "s3://bucket/prefix"
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    assert ids(check_machines()) == []


@pytest.fixture
def redis_options() -> Iterator[None]:
    """Restore the configuration of Redis after the test."""
    names = ("appendonly", "appendfsync", "maxmemory-policy", "maxmemory", "min-replicas-to-write")
    before = {name: own_client().config_get(name)[name] for name in names}
    yield
    for name, value in before.items():
        own_client().config_set(name, value)


@pytest.mark.usefixtures("redis_options")
@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("appendonly", "no", ["config.W006"]),
        ("appendfsync", "everysec", ["config.W007"]),
        ("maxmemory-policy", "allkeys-lru", ["config.W008"]),
        ("maxmemory", "0", ["config.W009"]),
        ("maxmemory", "5000000000", ["config.W010"]),
    ],
)
def test_the_checks_name_a_redis_that_may_lose_records(name: str, value: str, found: list[str]) -> None:
    own_client().config_set("appendfsync", "always")
    own_client().config_set("maxmemory", 6 * 1024**3)
    assert ids(check_redis()) == []
    own_client().config_set(name, value)
    assert ids(check_redis()) == found


@pytest.mark.usefixtures("redis_options")
@pytest.mark.parametrize(("least", "found"), [("0", ["config.W014"]), ("1", ["config.W014"]), ("2", [])])
def test_the_checks_compare_the_replicas_that_redis_needs(settings: Settings, least: str, found: list[str]) -> None:
    own_client().config_set("maxmemory", 6 * 1024**3)
    own_client().config_set("min-replicas-to-write", least)
    settings.REDIS_WAIT_REPLICAS = 2
    assert ids(check_redis()) == found


@pytest.mark.usefixtures("redis_options")
@pytest.mark.parametrize(("replicas", "found"), [(0, ["config.W015"]), (1, ["config.W014"])])
def test_the_checks_name_what_a_failover_may_lose(settings: Settings, replicas: int, found: list[str]) -> None:
    own_client().config_set("maxmemory", 6 * 1024**3)
    settings.REDIS_URL = "redis+sentinel://one,two,three/service"
    settings.REDIS_WAIT_REPLICAS = replicas
    assert ids(check_redis()) == found


def test_the_checks_name_each_primary_of_a_cluster(tmp_path: Path, settings: Settings) -> None:
    with cluster(tmp_path / "cluster") as servers:
        settings.REDIS_URL = f"redis://:s3cret%2F%40%3A@127.0.0.1:{servers.primaries[0].port}"
        sentinels.use(settings, settings.REDIS_URL)
        assert "config.E005" in ids(check_redis())
        use(settings, servers.url)
        settings.REDIS_URL = servers.url
        assert ids(check_settings()) == []
        for node in servers.primaries:
            node.client().config_set("maxmemory", 6 * 1024**3)
        assert ids(check_redis()) == ["config.W015"] * 3
        settings.REDIS_WAIT_REPLICAS = 1
        servers.primaries[1].client().config_set("appendfsync", "everysec")
        for node in servers.primaries:
            node.client().config_set("min-replicas-to-write", 1)
        servers.primaries[2].client().config_set("cluster-require-full-coverage", "yes")
        found, other = check_redis()
        assert str(other).startswith(f"127.0.0.1:{servers.primaries[2].port}: (config.W016)")
        assert str(found).startswith(f"127.0.0.1:{servers.primaries[1].port}: (config.W007)")
        for node in servers.primaries:
            node.kill()
        assert ids(check_redis()) == ["config.W005"]


def test_the_checks_name_a_redis_that_does_not_answer() -> None:
    with redis_away():
        assert ids(check_redis()) == ["config.W005"]


# -- under the documented production -------------------------------------------------------------------


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment of docs/operations.md, with secrets and with a Redis configured as the page says."""
    operations = (ROOT / "docs" / "operations.md").read_text()
    (block,) = re.findall(r"# /etc/ingest\.env\n(.*?)```", operations, re.DOTALL)
    written = dict(line.split("=", 1) for line in block.splitlines() if line)
    assert written["HTTPS"] == "true"
    for name in ("SECRET_KEY", "API_KEY_SECRET"):
        assert written[name] == "…"
        written[name] = "".join(chr(97 + n % 26) for n in range(60))
    directory = tmp_path_factory.mktemp("production")
    server = RedisServer(directory)
    server.start("--appendfsync", "always", "--maxmemory", "6gb")
    yield {**os.environ, **written, "REDIS_URL": server.url, "DATA_DIR": str(directory)}
    server.stop()


def run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=60)


def test_every_command_names_wrong_settings_and_loads_no_views(tmp_path: Path) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "REDIS_URL": "http://localhost"}
    done = run(environment, "-X", "importtime", "manage.py", "ledger")
    assert done.returncode == 1
    assert "(config.E004) REDIS_URL is not the URL of a Redis." in done.stderr
    assert "config.common.commands" in done.stderr
    assert "config.urls" not in done.stderr


def test_the_documented_production_has_no_issues(production: dict[str, str]) -> None:
    done = run(production, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "System check identified no issues (0 silenced).\n"


def test_check_deploy_names_what_production_lacks(production: dict[str, str], tmp_path: Path) -> None:
    environment = {name: value for name, value in production.items() if name != "SECRET_KEY"}
    unlike = {"REDIS_URL": "redis://redis.invalid:1/0", "DEBUG": "true", "HTTPS": "false", "DATABASE_URL": ""}
    done = run({**environment, **unlike, "DATA_DIR": str(tmp_path)}, "manage.py", "check", "--deploy")
    assert done.returncode == 0, done.stderr
    found = set(re.findall(r"\((config\.\w+|security\.\w+)\)", done.stderr))
    assert found == {
        *("config.W002", "config.W003", "config.W005", "config.W011", "config.W012"),
    }
    assert "set HTTPS=true." in done.stderr
    assert not re.search(r"SECURE_|COOKIE", done.stderr)  # names of Django's settings, which operators do not set
    assert "HINT: Set DATABASE_URL to a PostgreSQL that all machines can reach." in done.stderr


def test_check_deploy_names_a_secret_that_can_be_guessed(production: dict[str, str]) -> None:
    weak = {"SECRET_KEY": "abc" * 20, "SECRET_KEY_FALLBACKS": "short"}
    done = run({**production, **weak}, "manage.py", "check", "--deploy")
    assert "(config.W013) SECRET_KEY can be guessed." in done.stderr
    assert "(config.W013) SECRET_KEY_FALLBACKS can be guessed." in done.stderr


REQUESTS = """
import httpx
from tests.support.sending.asgi import Transport
client = httpx.Client(transport=Transport(), base_url="http://ingest.example.com")
for path, headers in (
    ("/healthz", {}),
    ("/datasets/1", {}),
    ("/admin/login/", {}),
    ("/admin/login/", {"X-Forwarded-Proto": "https"}),
    ("/static/admin-ours/admin.css", {"X-Forwarded-Proto": "https"}),
):
    answer = client.get(path, headers=headers)
    print(answer.status_code, answer.headers.get("Location"), "Strict-Transport-Security" in answer.headers)
"""


def test_https_redirects_the_admin_but_not_the_api(production: dict[str, str]) -> None:
    done = run(production, "-c", REQUESTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "200 None False",
        "405 None False",
        "301 https://ingest.example.com/admin/login/ False",
        "200 None True",
        "200 None True",
    ]
