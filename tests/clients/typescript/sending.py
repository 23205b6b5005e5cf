"""A program that sends numbered records with the TypeScript client while a test causes faults."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients.typescript.artifact import program
from tests.support.processes.stack import Stack
from tests.support.tools import executable

FIELDS = {"number": "integer", "text": "string"}


@dataclass
class Sender:
    """The program and, after `stop`, the outcomes of its records."""

    process: "subprocess.Popen[str]"
    sent: int = 0
    accepted: list[int] = field(default_factory=list)
    refused: dict[str, list[int]] = field(default_factory=dict)

    def wait_for(self, line: str) -> None:
        """Read the program's lines up to this one."""
        assert self.process.stdout is not None
        for printed in self.process.stdout:
            if printed.strip() == line:
                return
        raise AssertionError(f"the sender ended without {line!r}: {self._errors()}")

    def wait_until_accepted(self) -> None:
        """Wait until the service has accepted a record that the program enqueues after this call."""
        assert self.process.stdin is not None
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        self.wait_for("accepted")

    def stop(self) -> None:
        """Let the program close its client."""
        printed, _ = self.process.communicate("stop\n", timeout=120)
        assert self.process.returncode == 0, self._errors()
        for name, value in json.loads(printed.splitlines()[-1]).items():
            setattr(self, name, value)

    def check(self, stack: Stack, project_id: int, dataset_id: int) -> None:
        """Check that each record is settled, and that exactly the accepted ones are in the table, once each."""
        settled = sorted([*self.accepted, *(number for numbers in self.refused.values() for number in numbers)])
        assert settled == [*range(self.sent)]
        stack.wait_until_drained(dataset_id, len(self.accepted))
        rows = stack.query(project_id, dataset_id, "SELECT number, text FROM records ORDER BY number")
        assert rows == [(number, f"record {number}") for number in sorted(self.accepted)]

    def _errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def sending(stack: Stack, dataset_id: int, token: str, options: Mapping[str, Any] | None = None) -> Iterator[Sender]:
    """Run the program during a block."""
    script = shutil.copy(Path(__file__).with_name("sender.mjs"), program())
    command = [executable("node"), script, stack.url, token, str(dataset_id), json.dumps(options or {})]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            sender = Sender(process)
            sender.wait_for("accepted")
            yield sender
        finally:
            process.kill()
