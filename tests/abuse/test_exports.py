"""Exports on the real server, with missing files and with clients that do not read."""

import http.client
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.abuse.conftest import Tenant
from tests.abuse.test_slow import is_served_soon
from tests.support.processes.stack import Stack, running, wait_for
from tests.support.sending.connection import Connection

PASSWORD = "a long password for tests"
STALL_SECONDS = 5
FORMS = ("ndjson", "csv", "parquet")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run `manage.py up` with one web process. It soon disconnects clients that do not read."""
    environment = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD, "SEND_TIMEOUT_SECONDS": str(STALL_SECONDS)}
    with running(tmp_path_factory.mktemp("exports"), "--no-demo", "--web", "1", environment=environment) as stack:
        for name in ("root", "other", "third"):
            stack.manage("createsuperuser", "--noinput", "--username", name, "--email", "root@example.com")
        yield stack


@pytest.fixture(scope="module")
def tenant(service: Stack) -> Tenant:
    """Make a dataset with 60 MB of records that do not compress, in several files."""
    _, dataset, token = service.make_dataset("tenant", {"text": "string"})
    tenant = Tenant(service, dataset, token)
    with service.client(token) as client:
        for number in range(12):
            rows = [
                {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "text": secrets.token_hex(250_000)}
                for _ in range(10)
            ]
            assert client.post(f"/datasets/{dataset}/batch", json=rows).status_code == 202
            service.wait_for_rows(dataset, 10 * (number + 1))
    return tenant


def browser(stack: Stack, username: str = "root") -> httpx.Client:
    """Return a client that is logged in to the admin."""
    client = httpx.Client(base_url=stack.url, timeout=60)
    page = client.get("/admin/login/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    form = {"csrfmiddlewaretoken": token[1], "username": username, "password": PASSWORD, "next": "/admin/"}
    assert client.post("/admin/login/", data=form).status_code == 302
    return client


def export(tenant: Tenant, form: str) -> str:
    return f"/admin/ingest/datasetrecords/{tenant.dataset}/export/{form}/"


def data_files(tenant: Tenant) -> list[Path]:
    """Return the table's files, oldest first. An export reads them in this order or in the reverse order."""
    files = Path(tenant.stack.storage).glob(f"project_*/dataset_{tenant.dataset}/ingested-on=*/*.parquet")
    return sorted(files, key=lambda file: file.stat().st_mtime_ns)


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("form", FORMS)
def test_an_incomplete_export_breaks_the_connection(tenant: Tenant, form: str, version: str) -> None:
    client = browser(tenant.stack)
    whole = client.get(export(tenant, form))
    assert whole.status_code == 200, tenant.stack.log("web")[-6000:]
    assert len(whole.content) > 50_000_000
    files = data_files(tenant)
    middle = files[len(files) // 2]
    hidden = middle.rename(middle.with_suffix(".hidden"))
    try:
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        with Connection(tenant.stack.port) as connection:
            connection.send(
                f"GET {export(tenant, form)} {version}\r\nHost: localhost\r\nCookie: {cookies}\r\n\r\n".encode()
            )
            response = http.client.HTTPResponse(connection.socket)
            response.begin()
            assert response.status == 200
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()
    finally:
        hidden.rename(middle)
    assert client.get(export(tenant, form)).content[:100] == whole.content[:100]


def test_an_unreadable_export_is_an_error_page(tenant: Tenant) -> None:
    client = browser(tenant.stack)
    files = data_files(tenant)
    for file in files:
        file.rename(file.with_suffix(".hidden"))
    try:
        answer = client.get(export(tenant, "ndjson"))
    finally:
        for file in files:
            file.with_suffix(".hidden").rename(file)
    assert answer.status_code == 503
    assert "Nothing was exported." in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_unread_exports_block_no_other_client(tenant: Tenant) -> None:
    web = [psutil.Process(pid) for pid in tenant.stack.web_processes()]
    before = sum(process.memory_info().rss for process in web)
    clients = [browser(tenant.stack, name) for name in ("root", "other", "third")]
    answers = []
    opened: list[Connection] = []
    began = time.monotonic()
    for client in clients:
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        for _ in range(20):
            connection = Connection(tenant.stack.port)
            opened.append(connection)
            connection.head(f"GET {export(tenant, 'ndjson')}", f"Cookie: {cookies}")
            response = http.client.HTTPResponse(connection.socket)
            response.begin()
            answers.append(response.status)
    assert set(answers) == {200, 429}
    assert 4 <= answers.count(200) < 20  # the service disconnects some clients meanwhile, and serves others
    is_served_soon(tenant)
    peak = sum(process.memory_info().rss for process in web) - before
    assert peak < 900_000_000, f"{peak:,} bytes"
    wait_for(
        lambda: all(client.get(export(tenant, "csv"), params={"record": "1"}).status_code == 200 for client in clients),
        "an end of the unread exports",
        seconds=STALL_SECONDS * 12,
    )
    assert time.monotonic() - began < 120
    for connection in opened:
        connection.socket.close()


def test_an_export_over_the_limit_says_so(tenant: Tenant) -> None:
    client = browser(tenant.stack)
    with client.stream("GET", export(tenant, "csv")), client.stream("GET", export(tenant, "csv")):
        answer = client.get(export(tenant, "csv"))
    assert answer.status_code == 429
    assert "2 of your exports are still running" in answer.text
