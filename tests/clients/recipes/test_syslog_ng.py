"""The recipe for syslog-ng: what is stored, and what happens when something fails."""

import json
import os
import signal
import subprocess
import sys
from itertools import count
from typing import Any

from tests.clients.recipes.pages import Target, code_of
from tests.clients.recipes.relay import relaying
from tests.clients.recipes.shippers import syslog_ng
from tests.support.processes.stack import Stack, free_port

FIELDS: dict[str, Any] = json.loads(code_of("syslog-ng", "json"))["fields"]
_numbers = count()


def message(text: str, severity: int = 6) -> bytes:
    return f"<{8 + severity}>1 2026-06-10T10:58:00.123456+02:00 web-1 shop - - - {text}".encode()


class Logs:
    """A dataset for logs."""

    def __init__(self, stack: Stack, **fields: Any) -> None:
        self.stack, self.owner = stack, f"owner-{next(_numbers)}"
        made = stack.make_dataset(self.owner, {**FIELDS, **fields}, owner=self.owner)
        self.project_id, self.dataset_id, self.token = made

    def target(self, port: int = 0) -> Target:
        return Target(f"http://127.0.0.1:{port or self.stack.port}", self.token, self.dataset_id)

    def messages(self, accepted: int) -> list[str]:
        """Wait until all accepted records are stored. Return their messages, sorted."""
        return [row[0] for row in self.rows(accepted, "message")]

    def refused(self) -> tuple[float, float]:
        """Return the number of requests refused because of a field, and of records refused in lenient batches."""
        with self.stack.client() as client:
            lines = client.get("/metrics").text.splitlines()
        names = ('ingest_refused_requests_total{code="invalid_field"}', "ingest_rejected_records_total")
        found = [[float(line.split()[-1]) for line in lines if line.startswith(name)] for name in names]
        return sum(found[0]), sum(found[1])

    def rows(self, accepted: int, columns: str) -> list[tuple[Any, ...]]:
        self.stack.wait_until_drained(self.dataset_id, accepted)
        return self.stack.query(self.project_id, self.dataset_id, f"SELECT {columns} FROM records ORDER BY message")


def test_messages_are_stored_as_they_were_sent(stack: Stack) -> None:
    logs = Logs(stack)
    sent = [
        message('a "quoted" € \\ text', severity=3),
        message("12345"),
        b"<14>1 2026-06-10T10:58:01Z web-1 - - - - no program",
        b"<14>1 2026-06-10T10:58:01Z web-1 shop - - - \xff is not UTF-8",
        b"<14>1 2026-06-10T10:58:01Z web-1 shop - - -",
    ]
    with syslog_ng(logs.target()) as shipper:
        shipper.send(sent)
        stored = logs.rows(5, "host, program, severity, message, epoch_us(timestamp) % 1000000")
    assert stored == [
        ("web-1", "shop", "info", "", 0),
        ("web-1", "shop", "info", "12345", 123456),
        ("web-1", "shop", "info", "\\xff is not UTF-8", 0),
        ("web-1", "shop", "err", 'a "quoted" € \\ text', 123456),
        ("web-1", "", "info", "no program", 0),
    ]


def test_messages_wait_on_disk_while_the_service_is_away(stack: Stack) -> None:
    logs, port = Logs(stack), free_port()
    with syslog_ng(logs.target(port)) as shipper:
        shipper.send([message(f"{n:02}") for n in range(20)])
        shipper.wait_until_queued(20)
        shipper.stop(signal.SIGKILL)
        shipper.start()
        with relaying(port, stack.port):
            assert logs.messages(20) == [f"{n:02}" for n in range(20)]


def test_messages_wait_while_the_quota_has_no_room(stack: Stack) -> None:
    logs = Logs(stack)
    stack.do("quota", logs.owner, "--limit", "0")
    with syslog_ng(logs.target()) as shipper:
        shipper.send([message("over quota")])
        shipper.wait_for_log("status_code='429'")
        stack.do("quota", logs.owner, "--limit", "10")
        assert logs.messages(1) == ["over quota"]


def test_a_refused_record_does_not_stop_the_others(stack: Stack) -> None:
    logs = Logs(stack, severity={"type": "enum", "values": ["info"]})
    requests, records = logs.refused()
    with syslog_ng(logs.target()) as shipper:
        shipper.send([message("bad", severity=3)])
        shipper.wait_for_log("Message(s) dropped")
        shipper.send([message("good"), message("also bad", severity=3), message("good, too")])
        assert logs.messages(2) == ["good", "good, too"]
        shipper.wait_until_queued(0)
    assert logs.refused() == (requests + 1, records + 1)


def test_a_lost_answer_doubles_a_batch_and_its_readers_see_it_once(stack: Stack) -> None:
    logs, port = Logs(stack), free_port()
    with relaying(port, stack.port, to_lose=1) as relay, syslog_ng(logs.target(port)) as shipper:
        shipper.send([message("once"), message("and again")])
        assert logs.messages(4) == ["and again"] * 2 + ["once"] * 2
        assert relay.lost == 1
    path = f"{stack.storage}/project_{logs.project_id}/dataset_{logs.dataset_id}"
    code = code_of("reading", "python", 3).replace("var/tables/project_1/dataset_13", path)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert [done.stdout.count(f"│ {text} ") for text in ("once     ", "and again")] == [1, 1]
