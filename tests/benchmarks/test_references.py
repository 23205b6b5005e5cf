"""The ceiling and the Node service do the work that the benchmark says they do."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import lz4.block
import pytest

from config.common import redis
from config.processes.supervise import programs
from tests.benchmarks.payloads import body
from tests.benchmarks.systems.processes import wait_until
from tests.benchmarks.systems.references import Ceiling, Node, Scripted
from tests.benchmarks.systems.stack import start_ceiling, start_node
from tests.support.processes.stack import free_port
from tests.support.servers import plugin
from tests.support.tools import executable, node_packages

SOCKET = plugin.ROOT / "redis" / "redis.sock"
RECORD: dict[str, Any] = json.loads(body(1, 0))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    executable("node")
    node_packages(Node.directory)
    with ExitStack() as stack:
        node = start_node(stack, 2, tmp_path_factory.mktemp("node"), {}, SOCKET)
        wait_until(node.send_one, "the Node service answers")
        redis.client().flushall()
        yield node


@pytest.fixture(scope="module")
def ceiling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceiling]:
    web = next(each for each in programs(port=free_port(), web=1, workers=1) if each.name == "web")
    with ExitStack() as stack:
        ceiling = start_ceiling(stack, web, tmp_path_factory.mktemp("ceiling"), {}, SOCKET)
        wait_until(ceiling.send_one, "the ceiling answers")
        redis.client().flushall()
        yield ceiling


@pytest.fixture(params=["node", "ceiling"])
def system(request: pytest.FixtureRequest) -> Scripted:
    found: Scripted = request.getfixturevalue(request.param)
    return found


def post(system: Scripted, content: bytes, *, batch: bool = False, token: str = Scripted.TOKEN) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return httpx.post(system.url + "/datasets/1" + "/batch" * batch, content=content, headers=headers, timeout=30)


def queued(system: Scripted) -> list[dict[bytes, bytes]]:
    """Return the entries of the system's stream."""
    return [fields for _, fields in redis.client().xrange(f"{system.name}:stream")]


def test_a_record_is_charged_and_queued(system: Scripted) -> None:
    answer = post(system, body(1, 0))
    assert (answer.status_code, answer.json()) == (202, {"success": True, "status": "queued"})
    assert system.accepted() == 1
    assert queued(system) == [{b"b": body(1, 0), b"n": b"1"}]


def test_a_batch_is_charged_by_its_records_and_queued_once(system: Scripted) -> None:
    answer = post(system, body(100, 0), batch=True)
    assert (answer.status_code, answer.json()) == (202, {"success": True, "count": 100, "status": "queued"})
    assert system.accepted() == 100
    [entry] = queued(system)
    # The ceiling queues a large body compressed, as the product does.
    text = lz4.block.decompress(entry[b"b"]) if system.name == "ceiling" else entry[b"b"]
    assert (text, entry[b"n"]) == (body(100, 0), b"100")


def test_a_used_up_quota_refuses_a_request_and_changes_nothing(system: Scripted) -> None:
    redis.client().set(f"{system.name}:limit", 99)
    assert post(system, body(100, 0), batch=True).status_code == 429
    assert (system.accepted(), queued(system)) == (0, [])


BAD: dict[str, Any] = {
    "no object": [],
    "an extra field": {**RECORD, "extra": 1},
    "a missing field": {name: value for name, value in RECORD.items() if name != "plan"},
    "a number as a string": {**RECORD, "amount": "12.5"},
    "a boolean as a number": {**RECORD, "active": 1},
    "a timestamp without an offset": {**RECORD, "signup_at": "2026-06-01T08:00:00"},
    "an impossible date": {**RECORD, "timestamp": "2026-02-30T08:00:00Z"},
    "a context that is no object": {**RECORD, "context": "text"},
}


@pytest.mark.parametrize("record", BAD.values(), ids=BAD)
def test_the_node_service_refuses_what_the_schema_does_not_allow(node: Node, record: Any) -> None:
    assert post(node, json.dumps(record).encode()).status_code == 400
    assert post(node, json.dumps([RECORD, record]).encode(), batch=True).status_code == 400
    assert (node.accepted(), queued(node)) == (0, [])


def test_the_node_service_refuses_text_that_is_not_json(node: Node) -> None:
    assert post(node, b"{").status_code == 400


def test_the_node_service_refuses_an_unknown_key(node: Node) -> None:
    assert post(node, body(1, 0), token="other").status_code == 401
    assert node.accepted() == 0


def test_every_process_of_the_node_service_has_one_connection(node: Node) -> None:
    assert len([each for each in redis.client().client_list() if each["name"] == "service.mjs"]) == 2
