"""The proxies run with the configurations in docs/proxies; only the ports are changed.

Many servers turn X_Forwarded_For and X-Forwarded-For into the same variable (CVE-2015-0219). Then clients could choose
the address for which their failed logins are counted. So the proxies drop names with underscores, and the service
ignores them.
"""

import os
import random
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from config.common.env import BASE_DIR
from tests.support.processes.stack import Stack, free_port, running, wait_for
from tests.support.sending.connection import LINE, TEXT, Connection
from tests.support.tools import executable

CONFIGURATIONS = BASE_DIR / "docs" / "proxies"


class Proxy(NamedTuple):
    """A proxy, the service behind it, and a dataset of this service."""

    port: int
    stack: Stack
    dataset: int
    token: str
    directory: Path

    def forget_failures(self) -> None:
        """Reset the failed logins of earlier tests: all proxies have the same address."""
        self.stack.manage("axes_reset")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, int, str]]:
    environment = {"PROXY_COUNT": "1"}
    with running(tmp_path_factory.mktemp("proxies"), "--no-demo", "--web", "1", environment=environment) as stack:
        _, dataset, token = stack.make_dataset("tenant", {"text": "string"})
        yield stack, dataset, token


def nginx(directory: Path, text: str) -> list[str]:
    (directory / "ingest.conf").write_text(text.replace("/var/log/nginx/", f"{directory}/"))
    temporary = "".join(f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi"))
    temporary += "".join(f"{name}_temp_path {directory}/{name};" for name in ("uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; pid {directory}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {directory}/ingest.conf; }}\n"
    )
    return [executable("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def caddy(directory: Path, text: str) -> list[str]:
    path = directory / "Caddyfile"
    path.write_text("{\n\tadmin off\n}\n" + text)
    return [executable("caddy"), "run", "--adapter", "caddyfile", "--config", str(path)]


def haproxy(directory: Path, text: str) -> list[str]:
    path = directory / "haproxy.cfg"
    path.write_text(text)
    return [executable("haproxy"), "-db", "-f", str(path)]


PROXIES = {
    "nginx": (nginx, "nginx.conf", "listen 80;", "listen 127.0.0.1:{};"),
    "caddy": (caddy, "Caddyfile", "ingest.example.com {{", "http://:{} {{"),
    "haproxy": (haproxy, "haproxy.cfg", "bind :80 ", "bind 127.0.0.1:{} "),
}


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, service: tuple[Stack, int, str]
) -> Iterator[Proxy]:
    stack, dataset, token = service
    prepare, name, address, own_address = PROXIES[request.param]
    port, text = free_port(), (CONFIGURATIONS / name).read_text()
    for before, after in ((address.format(), own_address.format(port)), ("127.0.0.1:8000", f"127.0.0.1:{stack.port}")):
        assert text.count(before) == 1
        text = text.replace(before, after)
    directory = tmp_path_factory.mktemp(request.param)
    command = prepare(directory, text)
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(directory)}
        )
    try:
        wait_for(lambda: process.poll() is not None or _is_up(port), "the proxy")
        assert process.poll() is None, log.read_text()
        yield Proxy(port, stack, dataset, token, directory)
    finally:
        process.terminate()
        process.wait()


def _is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def in_any_order(*lines: str) -> list[str]:
    return random.sample(lines, len(lines))


def log_in(proxy: Proxy, *lines: str) -> int:
    """Try a wrong password in a new browser. Try again while the admin is busy. Return the status."""
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", trust_env=False) as browser:
        form = wait_for(lambda: re.search(_TOKEN, browser.get("/admin/login/").text), "the form")
        cookie = browser.cookies["csrftoken"]
    body = f"csrfmiddlewaretoken={form[1]}&username=nobody&password=wrong".encode()

    def status() -> int | None:
        with Connection(proxy.port) as connection:
            given = ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
            connection.head("POST /admin/login/", *in_any_order(*given, f"Cookie: csrftoken={cookie}", *lines))
            connection.send(body)
            answer = connection.answer().status
            return None if answer == 503 else answer

    return wait_for(status, "an answer")


_TOKEN = r'name="csrfmiddlewaretoken" value="([^"]+)"'


def test_failed_logins_count_for_the_real_address(proxy: Proxy) -> None:
    """This holds for every address, spelling and order of the header that a client may send."""
    proxy.forget_failures()
    spellings = ("X_Forwarded_For", "x_forwarded_for", "X-Forwarded_For", "X_Forwarded-For", "X-Forwarded-For")
    statuses = []
    for number, name in enumerate([*spellings, *spellings[:2]]):
        statuses.append(log_in(proxy, f"{name}: 203.0.113.{number}", "Zz-1: 1", "Zz-2: 2"))
    assert statuses == [200] * 4 + [429] * 3


def test_a_header_with_underscores_is_not_trusted(proxy: Proxy) -> None:
    for _ in range(10):
        with Connection(proxy.port, proxy.token) as connection:
            lines = in_any_order("X-Request-Id: dash", "X_Request_Id: underscore", f"Content-Length: {len(TEXT)}")
            connection.post(f"/datasets/{proxy.dataset}", *lines)
            connection.send(TEXT)
            answer = connection.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (202, "dash")
        with Connection(proxy.port, proxy.token) as connection:
            connection.post("/datasets", f"X_Loguro_Dataset_Id: {proxy.dataset}", f"Content-Length: {len(TEXT)}")
            connection.send(TEXT)
            assert connection.answer().status == 404  # there is no default dataset


def test_an_encoded_slash_is_not_a_slash(proxy: Proxy) -> None:
    body = b"[%b]" % TEXT
    for path, status in (
        (f"/datasets/{proxy.dataset}/batch", 202),
        (f"/datasets/{proxy.dataset}/batch?x=%2F", 202),
        (f"/datasets/{proxy.dataset}%2Fbatch", 404),
        (f"/datasets/{proxy.dataset}%2fbatch?x", 404),
        (f"/datasets%2F{proxy.dataset}/batch", 404),
    ):
        with Connection(proxy.port, proxy.token) as connection:
            connection.post(path, f"Content-Length: {len(body)}")
            connection.send(body)
            answer = connection.answer()
            assert answer.status == status, path
            assert answer.headers["content-type"] == "application/json"
            assert status == 202 or answer.json() == {"error": "Not found", "code": "not_found"}


def test_a_beacon_passes_and_its_key_is_written_nowhere(proxy: Proxy, tmp_path: Path) -> None:
    """Search the files of the proxy and of the service: logs, database, tables, and Redis with its append-only file."""
    page, stack = "https://shop.example.com", proxy.stack
    token = stack.manage("create_key", "tenant", "--name", f"shop {proxy.port}", "--origin", page).strip()
    address = f"http://127.0.0.1:{proxy.port}/datasets/{proxy.dataset}?key="
    for key, origin, status in ((token, page, 202), (token, "https://evil.example", 403), (proxy.token, page, 403)):
        headers = {"Origin": origin, "Content-Type": "text/plain;charset=UTF-8"}
        assert httpx.post(address + key, content=TEXT, headers=headers, trust_env=False).status_code == status
    preflight = {"Origin": page, "Access-Control-Request-Method": "POST"}
    answer = httpx.options(address + token, headers=preflight, trust_env=False)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, "*")
    metrics = httpx.get(f"{stack.url}/metrics", trust_env=False).text
    assert 'code="origin_not_allowed"' in metrics
    wait_for(lambda: "api_key_in_address" in stack.log("web"), "the log")
    files = [path for folder in (proxy.directory, stack.data_dir) for path in folder.rglob("*") if path.is_file()]
    written = [metrics.encode(), stack.printed().encode(), *(path.read_bytes() for path in files)]
    assert any(b"POST /datasets/" in text for text in written) or not (proxy.directory / "access.log").exists()
    for key in (token, proxy.token):
        signature = key.rpartition(".")[2].encode()
        assert not [text for text in written if signature in text]


def test_chunked_lines_are_all_or_nothing_behind_a_proxy(proxy: Proxy) -> None:
    """If a client disconnects, a proxy must not turn the part that has arrived into a whole message."""
    before = proxy.stack.ledger(proxy.dataset)["accepted"]
    path = f"/datasets/{proxy.dataset}/batch"
    lines = ["Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"]
    for count in range(6):
        with Connection(proxy.port, proxy.token) as connection:
            connection.head(f"POST {path}", *lines)
            for _ in range(count):
                connection.chunk(LINE)
    with Connection(proxy.port, proxy.token) as connection:
        connection.head(f"POST {path}", *lines)
        connection.chunk(LINE)
        connection.chunk(LINE)
        connection.send(b"0\r\n\r\n")
        assert connection.answer().json()["count"] == 2
    assert proxy.stack.ledger(proxy.dataset)["accepted"] == before + 2


def test_the_service_and_not_the_proxy_limits_bodies(proxy: Proxy) -> None:
    limit = 10 * 1024 * 1024
    for size, status in ((limit, 202), (limit + 1, 413)):
        with Connection(proxy.port, proxy.token) as connection:
            connection.post(f"/datasets/{proxy.dataset}", f"Content-Length: {size}")
            with suppress(BrokenPipeError, ConnectionResetError):  # Caddy answers before it has read the whole body
                connection.send(TEXT.ljust(size))
            answer = connection.answer()
            assert answer.status == status
            assert status == 202 or answer.json()["limit"] == limit
