"""The admin answers invalid values, and requests while a server is down, with a page that says what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from config.common.env import BASE_DIR
from tests.ingest.admin.test_tenancy import Tenant, as_user
from tests.support.admin import nasty
from tests.support.servers.outages import redis_away


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    return Tenant("zebra")


@pytest.mark.parametrize(
    ("is_superuser", "step"),
    [(True, 4), (False, 9), *(pytest.param(each, 1, marks=pytest.mark.long) for each in (True, False))],
)
def test_no_url_answers_an_invalid_value_with_a_5xx(tenant: Tenant, is_superuser: bool, step: int) -> None:
    user = User.objects.create_superuser("root") if is_superuser else tenant.user
    assert nasty.failures(user, tenant, step=step) == []


def test_no_url_answers_an_invalid_value_with_a_5xx_on_sqlite(tmp_path: Path) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "DATABASE_URL": "", "STORAGE_URL": str(tmp_path / "tables")}
    command = [sys.executable, "-m", "tests.support.admin.nasty_on_sqlite"]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("project__id__exact=abc", "/admin/datasets/dataset/"),
        ("pk__regex=[", "/admin/datasets/project/"),
        ("created_at__year=99999", "/admin/datasets/apikey/"),
        (f"project={nasty.HUGE}", "/admin/ledger/"),
        ("project=abc", "/admin/ledger/"),
    ],
)
def test_invalid_value_in_a_url_gives_a_400_page(tenant: Tenant, query: str, path: str) -> None:
    Tenant("heron")  # with only one project there is no filter by project
    answer = as_user(User.objects.create_superuser("root")).get(f"{path}?{query}")
    assert answer.status_code == 400
    assert "<h1" in answer.content.decode()
    assert "Invalid request" in answer.content.decode()


def test_missing_and_forbidden_pages_say_so(tenant: Tenant) -> None:
    client = as_user(tenant.user)
    for path, status, words in (
        ("/admin/nothing/", 404, "This page does not exist"),
        (f"/admin/datasets/dataset/{nasty.HUGE}/change/", 404, "This page does not exist"),
        ("/admin/auth/user/", 403, "You do not have permission to open this page"),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        assert words in answer.content.decode()
    enforcing = Client(enforce_csrf_checks=True)
    enforcing.force_login(tenant.user)
    assert "The form was out of date" in enforcing.post("/admin/password_change/").content.decode()


def test_sidebar_search_works_twice(tenant: Tenant) -> None:
    client = as_user(User.objects.create_superuser("root"))
    for _ in range(2):  # the second answer comes from the cache
        assert reverse("admin:datasets_project_changelist") in client.get("/admin/search/?s=proj").content.decode()


def _pages(tenant: Tenant) -> list[str]:
    skipped = ("/export/", "/r/", "jsi18n", "/delete/")
    return [path for path in nasty.everything(tenant)[0] if not any(each in path for each in skipped)]


def test_every_page_works_without_redis_or_says_it_is_down(tenant: Tenant) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root"))
    missing = 0
    with redis_away():
        for path in _pages(tenant):
            answer = client.get(path)
            if answer.status_code == 503:
                missing += 1
                assert "Redis does not answer" in answer.content.decode(), path
                assert answer.headers["Content-Type"] == "text/html; charset=utf-8", path
            else:
                assert answer.status_code < 500, path
    assert 0 < missing < 20


def test_every_page_says_that_the_database_is_down(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root"))
    connection.close()
    # No server listens on this port.
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "9")
    try:
        for path in _pages(tenant):
            answer = client.get(path)
            if path != "/admin/login/" or answer.status_code != 200:
                assert answer.status_code == 503, path
                assert "The database does not answer" in answer.content.decode(), path
    finally:
        monkeypatch.undo()
        connection.close()
