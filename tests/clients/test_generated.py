"""Clients generated from the OpenAPI document compile, and send records."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes.stack import Stack, running
from tests.support.tools import executable

HERE = Path(__file__).parent
FIELDS = {"text": "string", "amount": "number", "active": "boolean"}
SCRIPTS = Path(sys.executable).parent


class Service:
    """A running service, one of its datasets, and a file with its OpenAPI document."""

    def __init__(self, stack: Stack, description: Path) -> None:
        self.stack = stack
        self.project_id, self.dataset_id, self.token = stack.make_dataset("clients", FIELDS)
        with stack.client() as client:
            description.write_bytes(client.get("/openapi.json").content)
        self.description = description

    def stored(self, text: str) -> int:
        """Wait until all accepted records are stored. Return how many have this text."""
        self.stack.wait_for_rows(self.dataset_id, self.stack.ledger(self.dataset_id)["accepted"])
        sql = f"SELECT count(*) FROM records WHERE text = '{text}' AND amount = 42.5 AND active"
        return int(self.stack.query(self.project_id, self.dataset_id, sql)[0][0])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("clients")
    with running(directory / "data", "--no-demo", "--web", "1") as stack:
        yield Service(stack, directory / "openapi.json")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a generator or a compiler. Return what it prints."""
    environment = {**os.environ, "PATH": os.pathsep.join([str(SCRIPTS), os.environ["PATH"]])}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_python_client_sends_records(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = ("generate", "--path", service.description, "--output-path", "ingest_client", "--meta", "none")
    run(SCRIPTS / "openapi-python-client", *generate, cwd=tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    made: Any = importlib.import_module("ingest_client")
    models: Any = importlib.import_module("ingest_client.models")
    one: Any = importlib.import_module("ingest_client.api.default.one")
    batch: Any = importlib.import_module("ingest_client.api.default.batch")
    client = made.AuthenticatedClient(base_url=service.stack.url, token=service.token)

    def record(**fields: Any) -> Any:
        context = models.RecordContext.from_dict({"source": "python", "tags": ["a", "b"]})
        made = models.Record(timestamp=datetime.now(UTC), context=context)
        made.additional_properties = {"text": "python", "amount": 42.5, "active": True, **fields}
        return made

    assert one.sync(service.dataset_id, client=client, body=record()).status == "queued"
    assert batch.sync(service.dataset_id, client=client, body=[record(), record()]).count == 2
    refused = one.sync(service.dataset_id, client=client, body=record(amount="42.5"))
    assert refused.error == "Invalid number field: amount"
    many = batch.sync(service.dataset_id, client=client, body=[record(amount="42.5")] * 30)
    assert (len(many.errors), many.truncated) == (20, True)
    assert service.stored("python") == 3


def test_a_typescript_client_sends_records(service: Service, tmp_path: Path) -> None:
    packages = HERE / "node_modules"
    node, compiler = executable("node"), executable("tsc", packages / ".bin")
    (tmp_path / "node_modules").symlink_to(packages)
    for name in ("send.ts", "package.json"):
        shutil.copy(HERE / name, tmp_path)
    run(packages / ".bin" / "openapi-typescript", service.description, "-o", "api.d.ts", cwd=tmp_path)
    options = ("--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom")
    run(compiler, *options, "send.ts", cwd=tmp_path)
    printed = run(node, "send.js", service.stack.url, service.token, str(service.dataset_id), cwd=tmp_path)
    assert json.loads(printed) == ["queued", 2, "Invalid number field: amount"]
    assert service.stored("typescript") == 3
