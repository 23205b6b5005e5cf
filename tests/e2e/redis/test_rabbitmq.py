"""Celery's broker is a RabbitMQ, and Redis has only the records."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.processes.stack import free_port, running, wait_for
from tests.support.sending.connection import ROW
from tests.support.tools import executable


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Start a RabbitMQ with ports and a directory of its own. Yield its URL."""
    # The command in /usr/sbin would change to another user.
    server = executable("rabbitmq-server", Path("/usr/lib/rabbitmq/bin"))
    epmd_port, port = str(free_port()), free_port()
    directory = tmp_path / "rabbitmq"
    directory.mkdir()
    environment = {
        **os.environ,
        "HOME": str(directory),
        "ERL_EPMD_PORT": epmd_port,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "tests@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(directory),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "none"),
    }
    # Erlang would start epmd as a daemon that outlives the server.
    epmd = subprocess.Popen([executable("epmd"), "-port", epmd_port, "-address", "127.0.0.1"])
    process = subprocess.Popen([server], env=environment, stdout=subprocess.DEVNULL)
    try:
        log = directory / "tests@localhost.log"
        wait_for(lambda: log.exists() and "Server startup complete" in log.read_text(), "RabbitMQ")
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        process.terminate()
        process.wait()
        epmd.kill()
        epmd.wait()


@pytest.mark.long  # to install RabbitMQ takes half a minute
def test_records_are_stored_with_rabbitmq_as_the_broker(broker: str, tmp_path: Path) -> None:
    with running(tmp_path / "data", "--no-demo", "--web", "1", environment={"CELERY_BROKER_URL": broker}) as stack:
        _, dataset, token = stack.make_dataset("tenant", {"text": "string"})
        with stack.client(token) as client:
            for number in range(3):
                assert client.post(f"/datasets/{dataset}", json=ROW).status_code == 202
                stack.wait_until_drained(dataset, number + 1)
        wait_for(lambda: httpx.get(f"{stack.url}/readyz").status_code == 200, "readiness")
        assert "PRECONDITION_FAILED" not in stack.log("beat")
