"""`manage.py up`: its first start, its commands, how it replaces processes that die, and how it ends."""

import csv
import io
import json
import os
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pyarrow.parquet as pq
import pytest

from tests.conftest import RECORD
from tests.support.processes.roles import families
from tests.support.processes.stack import PATIENCE_SECONDS, Stack, running, wait_for, words

FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
QUEUED = {"success": True, "status": "queued"}


def send_until_accepted(stack: Stack, token: str, dataset_id: int) -> None:
    """Send a record repeatedly until one is accepted: a killed process may not be back yet."""

    def accepted() -> bool:
        try:
            with stack.client(token) as client:
                return client.post(f"/datasets/{dataset_id}", json=RECORD).status_code == 202
        except httpx.TransportError:
            return False

    wait_for(accepted, "acceptance")


def wait_until_all_is_stored(stack: Stack, dataset_id: int, more_than: int) -> int:
    """Wait until the dataset has more records than before and an empty queue. Return the number of records."""
    stack.wait_for_rows(dataset_id, more_than + 1)

    def stored() -> int:
        balance = stack.ledger(dataset_id)
        assert balance["adds_up"], balance
        return int(balance["stored"]) if balance["stored"] > more_than and not balance["queued"] else 0

    return wait_for(stored, "storage")


def open_to_others(stack: Stack) -> list[str]:
    """Return the data directory and the paths in it, but only those to which other users have rights."""
    own = "operator.log"  # a file of the tests
    paths = [path for path in (stack.data_dir, *stack.data_dir.rglob("*")) if path.name != own]
    # The running service may delete a file after `rglob` has listed it.
    return [str(path) for path in paths if path.exists() and path.stat().st_mode & 0o077]


# -- the first start


def test_the_printed_commands_work_as_pasted(demo: Stack) -> None:
    line = words(r"\n(curl .*?)\n\n", demo.printed())
    assert json.loads(demo.shell(line)) == QUEUED

    look = words(r"Read it back a second later:\n\n(.*?)\n", demo.printed())
    shown = wait_for(lambda: printed if "billing-service" in (printed := demo.shell(look)) else "", "the row")
    assert "RO" in shown
    assert "42.5" in shown


def test_the_printed_login_opens_the_admin(demo: Stack) -> None:
    address = words(r"Admin +(\S+)", demo.printed())
    password = words(r"Login +admin / (\S+)", demo.printed())
    assert address == f"http://localhost:{demo.port}/admin/"
    with demo.client(follow_redirects=True) as client:
        page = client.get("/admin/")
        token = words(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token, "next": "/admin/"}
        answer = client.post("/admin/login/", data=form, headers={"Referer": f"{demo.url}/admin/login/"})
    assert answer.status_code == 200
    assert "Log out" in answer.text


def test_only_the_first_start_prints_the_login_and_the_key(tmp_path: Path) -> None:
    with running(tmp_path / "data") as first:
        password = words(r"Login +admin / (\S+)", first.printed())
        token = words(r"Authorization: Bearer (\S+)'", first.printed())
    with running(tmp_path / "data") as second:
        assert password not in second.printed()
        assert "Bearer" not in second.printed()
        again = second.shell(words(r"The demo's login and curl line:\n\n(.*?)\n", second.printed()))
        assert f"Login     admin / {password}" in again
        assert f"http://localhost:{second.port}/datasets/1" in again
        assert token.split(".")[0] in again


def test_the_admin_is_served_with_its_styles(demo: Stack) -> None:
    with demo.client() as client:
        style = words(r'href="(/static/[^"]+\.css)"', client.get("/admin/login/").text)
        answer = client.get(style)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/css")


def test_up_becomes_ready_by_itself(demo: Stack) -> None:
    with demo.client() as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, "readiness")
        assert client.get("/readyz").json() == {
            "status": "ok",
            "checks": dict.fromkeys(("redis", "database", "worker", "upkeep", "beat", "storage"), "ok"),
        }


def test_sqlite_uses_a_write_ahead_log(demo: Stack) -> None:
    with closing(sqlite3.connect(demo.data_dir / "db.sqlite3")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_one_up_at_a_time_runs_in_a_data_directory(demo: Stack) -> None:
    second = Stack(demo.data_dir, "--no-demo")
    second.launch()
    assert second.process is not None
    assert second.process.wait(PATIENCE_SECONDS) == 1
    assert f"Another `up` runs in {demo.data_dir}. Stop it (`kill " in second.printed()
    with demo.client() as client:
        assert client.get("/healthz").status_code == 200


def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data")
    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.port))
        other.listen()
        stack.launch()
        assert stack.process is not None
        assert stack.process.wait(PATIENCE_SECONDS) == 1
    assert f"Port {stack.port} cannot be used" in stack.printed()
    assert "choose another with --port" in stack.printed()
    assert "Traceback" not in stack.printed()
    assert stack.processes() == set()


# -- HTTP


def exchange(
    stack: Stack, path: str, token: str, headers: str, body: bytes, *, rest: bytes = b""
) -> tuple[bytes, bool]:
    """Send a request with the first part of its body, and wait for the answer. Then send the rest of the body.

    Return the answer's head, and whether another request may follow on the connection.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head.encode())
        answer = b""
        if body:  # the answer waits for the body
            connection.sendall(body)
        while not answer.endswith(b"}") and (some := connection.recv(65536)):
            answer += some
        connection.sendall(rest)
        connection.settimeout(0.5)
        try:
            stays_open = connection.recv(65536) != b""
        except TimeoutError:
            stays_open = True
    return answer.partition(b"\r\n\r\n")[0].lower(), stays_open


@pytest.mark.parametrize(
    ("headers", "rest"),
    [
        ("Content-Type: application/json\r\nContent-Length: 50", b" " * 50),
        ("Content-Type: application/json\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    ],
    ids=["announced", "chunked"],
)
def test_a_refusal_before_the_body_closes_the_connection(demo: Stack, headers: str, rest: bytes) -> None:
    for path, status in (("/datasets/1", b"401"), ("/nowhere", b"404")):
        answer, stays_open = exchange(demo, path, "forged", headers, b"", rest=rest)
        assert answer.startswith(b"http/1.1 " + status)
        assert b"connection: close" in answer
        assert not stays_open


def test_a_connection_stays_open_after_a_read_request(demo: Stack) -> None:
    _, dataset_id, token = demo.make_dataset("connected", FIELDS)
    headers = "Content-Type: application/json\r\nContent-Length: 2"
    answer, stays_open = exchange(demo, f"/datasets/{dataset_id}", token, headers, b"{}")
    assert answer.startswith(b"http/1.1 400")
    assert b"connection: close" not in answer
    assert stays_open

    chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked"
    answer, stays_open = exchange(demo, f"/datasets/{dataset_id}", token, chunked, b"2\r\n{}\r\n0\r\n\r\n")
    assert answer.startswith(b"http/1.1 400")
    assert b"connection: close" not in answer
    assert stays_open


def test_a_body_over_the_limit_gets_an_answer(demo: Stack) -> None:
    _, dataset_id, token = demo.make_dataset("too-large", FIELDS)
    with demo.client(token) as client:
        for _ in range(5):
            answer = client.post(
                f"/datasets/{dataset_id}/batch",
                content=b" " * 30_000_000,
                headers={"Content-Type": "application/json"},
            )
            assert (answer.status_code, answer.json()["limit"]) == (413, 10 * 1024 * 1024)


# -- commands while it runs


def test_commands_find_the_servers_and_print_only_ids(demo: Stack, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"fields": FIELDS}))
    project_id = demo.manage("create_project", "shop", "--owner", "grace", "--name", "The shop")
    dataset_id = demo.manage("create_dataset", "shop", "Orders of 2026", "--schema", str(schema))
    token = demo.manage("create_key", "shop", "--name", "checkout", "--expires", "2999-01-31")
    for printed in (project_id, dataset_id):
        assert printed.strip().isdecimal()
        assert printed.endswith("\n")
    assert token.count("\n") == 1

    with demo.client(token.strip()) as client:
        assert client.post(f"/datasets/{dataset_id.strip()}", json=RECORD).json() == QUEUED
    demo.wait_until_drained(int(dataset_id), 1)
    assert demo.query(int(project_id), int(dataset_id), "SELECT country, plan, amount, active FROM records") == [
        ("RO", "pro", 42.5, True)
    ]


def test_the_quota_command_takes_effect_on_the_next_request(demo: Stack) -> None:
    _, dataset_id, token = demo.make_dataset("limited", FIELDS, owner="edsger")
    with demo.client(token) as client:
        assert client.post(f"/datasets/{dataset_id}", json=RECORD).status_code == 202
        said = demo.manage("quota", "edsger", "--limit", "2")
        assert said.startswith("edsger: 1 of 2 records in ")
        assert client.post(f"/datasets/{dataset_id}/batch", json=[RECORD, RECORD]).status_code == 429
        assert client.post(f"/datasets/{dataset_id}", json=RECORD).status_code == 202
        assert client.post(f"/datasets/{dataset_id}", json=RECORD).status_code == 429
    assert demo.manage("quota", "edsger").startswith("edsger: 2 of 2 records in ")


def test_records_can_be_read_in_every_format(demo: Stack, tmp_path: Path) -> None:
    _, dataset_id, token = demo.make_dataset("read-back", FIELDS)
    with demo.client(token) as client:
        for country in ("RO", "US", "DE"):
            assert client.post(f"/datasets/{dataset_id}", json={**RECORD, "country": country}).status_code == 202
    demo.wait_until_drained(dataset_id, 3)
    number = str(dataset_id)

    lines = [json.loads(line) for line in demo.manage("records", number, "--format", "ndjson").splitlines()]
    assert sorted(line["country"] for line in lines) == ["DE", "RO", "US"]
    assert {line["signup_at"] for line in lines} == {"2026-06-01T08:00:00Z"}

    rows = list(csv.DictReader(io.StringIO(demo.manage("records", number, "--format", "csv"))))
    assert sorted((row["country"], row["amount"], row["active"]) for row in rows) == [
        ("DE", "42.5", "true"),
        ("RO", "42.5", "true"),
        ("US", "42.5", "true"),
    ]

    latest = demo.manage("records", number, "--limit", "1")
    assert "DE" in latest
    assert "US" not in latest

    assert demo.manage("records", number, "--format", "parquet", "-o", str(tmp_path / "parquet")) == ""
    assert sorted(pq.read_table(tmp_path / "parquet")["country"].to_pylist()) == ["DE", "RO", "US"]


def test_the_ledger_is_printed_as_a_table_or_json(demo: Stack) -> None:
    _, dataset_id, token = demo.make_dataset("counted", FIELDS)
    with demo.client(token) as client:
        assert client.post(f"/datasets/{dataset_id}/batch", json=[RECORD] * 1234).status_code == 202
    demo.wait_until_drained(dataset_id, 1234)
    assert dataset_id in [balance["dataset_id"] for balance in json.loads(demo.manage("ledger", "--json"))]
    table = demo.manage("ledger", "--dataset", str(dataset_id))
    assert "1,234" in table
    assert "yes" in table


def test_replay_names_an_entry_that_does_not_exist(demo: Stack) -> None:
    refused = demo.run_command("replay", "4711")
    assert (refused.returncode, refused.stderr.decode().strip()) == (
        1,
        "CommandError: There is no quarantined entry 4711.",
    )


def test_only_the_owner_can_use_the_data_directory(demo: Stack) -> None:
    _, dataset_id, token = demo.make_dataset("private", FIELDS)
    with demo.client(token) as client:
        assert client.post(f"/datasets/{dataset_id}", json=RECORD).status_code == 202
    demo.wait_until_drained(dataset_id, 1)
    named = {path.name for path in demo.data_dir.rglob("*")}
    assert {"db.sqlite3", "db.sqlite3-wal", "secret_key", "appendonlydir", "worker.log", "_delta_log"} <= named
    assert open_to_others(demo) == []


def test_secrets_are_in_no_log(demo: Stack) -> None:
    password = words(r"Login +admin / (\S+)", demo.printed())
    token = words(r"Authorization: Bearer (\S+)'", demo.printed())
    with demo.client(token) as client:
        for path in ("/datasets/1", f"/datasets/1?key={token}", "/datasets/0", "/nowhere"):
            client.post(path, json=RECORD)
        client.post("/datasets/1", json=RECORD, headers={"Authorization": f"Bearer {token}x"})
        client.post("/admin/login/", data={"username": "admin", "password": password})
    secret = (demo.data_dir / "secret_key").read_text()
    for log in (demo.data_dir / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert [each for each in (password, token, secret) if each in text] == [], log


# -- when a process dies


@pytest.fixture(scope="module")
def target(demo: Stack) -> tuple[int, str]:
    """Make a dataset and a key in the running stack."""
    _, dataset_id, token = demo.make_dataset("robust", FIELDS)
    return dataset_id, token


@pytest.mark.parametrize("program", ["redis", "web", "worker", "upkeep", "beat"])
def test_a_killed_process_is_started_again(demo: Stack, target: tuple[int, str], program: str) -> None:
    dataset_id, token = target
    before = demo.ledger(dataset_id)["accepted"]
    killed = demo.program(program)
    killed.kill()
    wait_for(lambda: not killed.is_running() and demo.program(program).pid != killed.pid, f"another {program}")
    send_until_accepted(demo, token, dataset_id)
    wait_until_all_is_stored(demo, dataset_id, before)


def test_a_killed_web_worker_is_started_again(demo: Stack, target: tuple[int, str]) -> None:
    dataset_id, token = target
    wait_for(lambda: len(demo.web_processes()) == 2, "two web processes")
    killed = min(demo.web_processes())
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: len(demo.web_processes()) == 2 and killed not in demo.web_processes(), "two web processes again")
    send_until_accepted(demo, token, dataset_id)


def test_a_killed_celery_child_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--no-demo", "--workers", "2") as stack:
        _, dataset_id, token = stack.make_dataset("robust", FIELDS)
        children = wait_for(lambda: found if len(found := families(stack)["worker"].children) == 2 else [], "workers")
        children[0].kill()
        send_until_accepted(stack, token, dataset_id)
        wait_until_all_is_stored(stack, dataset_id, 0)
        wait_for(lambda: len(families(stack)["worker"].children) == 2, "another worker")


def test_web_workers_end_with_their_main_process(demo: Stack, target: tuple[int, str]) -> None:
    dataset_id, token = target
    send_until_accepted(demo, token, dataset_id)
    main = demo.program("web")
    before = main.children()
    main.kill()
    psutil.wait_procs(before, timeout=PATIENCE_SECONDS)
    assert [process for process in before if process.is_running()] == []
    send_until_accepted(demo, token, dataset_id)


# -- how it ends


def test_a_restart_keeps_keys_quota_data_and_queue(tmp_path: Path) -> None:
    """The first run sends no drains, so its queue still has records when it ends."""
    with running(tmp_path / "data", "--no-demo", environment={"DISPATCH_SECONDS": "3600"}) as stack:
        assert json.loads(stack.manage("ledger", "--json")) == []
        assert "curl" not in stack.printed()
        project_id, dataset_id, token = stack.make_dataset("kept", FIELDS, owner="barbara")
        with stack.client(token) as client:
            assert client.post(f"/datasets/{dataset_id}", json=RECORD).status_code == 202
            assert client.post(f"/datasets/{dataset_id}/batch", json=[RECORD] * 99).status_code == 202
        assert stack.ledger(dataset_id)["queued"] == 100
        assert stack.stop(signal.SIGINT) == 0

    for path in [stack.data_dir, *stack.data_dir.rglob("*")]:  # earlier versions gave rights to other users
        path.chmod(path.stat().st_mode | 0o055)
    with running(tmp_path / "data", "--no-demo") as stack:
        assert open_to_others(stack) == []
        stack.wait_until_drained(dataset_id, 100)
        assert stack.do("quota", "barbara").startswith("barbara: 100 of ")
        with stack.client(token) as client:
            assert client.post(f"/datasets/{dataset_id}", json=RECORD).status_code == 202
        stack.wait_until_drained(dataset_id, 101)
        assert stack.query(project_id, dataset_id, "SELECT count(*), count(DISTINCT id) FROM records") == [(101, 101)]
        assert stack.stop(signal.SIGTERM) == 0
