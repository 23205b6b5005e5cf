"""The whole service behind Sentinel, with its broker. The primary is killed under load."""

from pathlib import Path

import httpx

from tests.e2e.redis.load import Load
from tests.support.processes.stack import Stack, running, wait_for
from tests.support.sending.connection import ROW
from tests.support.servers.sentinels import trio


def status(stack: Stack, dataset: int, token: str, text: str) -> int:
    with stack.client(token) as client:
        return client.post(f"/datasets/{dataset}", json={**ROW, "text": text}).status_code


def test_failover_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with trio(tmp_path / "servers") as servers:
        environment = {"REDIS_URL": servers.url(), "REDIS_WAIT_REPLICAS": "1"}
        with running(tmp_path / "data", "--no-demo", "--web", "1", environment=environment) as stack:
            project, dataset, token = stack.make_dataset("watched", {"text": "string"})
            key = stack.operator.do("new_key", project=project)
            assert status(stack, dataset, key["token"], "first") == 202
            stack.operator.do("revoke", key=key["key"])
            load = Load(stack, dataset, token)
            with load.running():
                wait_for(lambda: len(load.accepted) > 200, "records before the failover")
                old = servers.fail_over()
                old.start()  # the sentinels make it the replica that the new primary needs
            assert load.answers == {202, 503}
            assert status(stack, dataset, key["token"], "late") == 401
            stack.wait_until_drained(dataset, len(load.accepted) + 1)
            rows = [text for (text,) in stack.query(project, dataset, "SELECT text FROM records")]
            assert sorted(rows) == sorted(["first", *load.accepted])
            wait_for(lambda: httpx.get(f"{stack.url}/readyz").status_code == 200, "readiness")
