"""Give orders to `tests.faults.actors.operator_process`, and wait for the answers."""

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.common.env import BASE_DIR

if TYPE_CHECKING:  # the stack imports this module, too
    from tests.support.processes.stack import Stack


class OperatorFailed(Exception):
    """The order failed. A part of it may have been done."""


class Operator:
    """A process beside a stack that takes one order at a time. If it does not answer, it is started again."""

    def __init__(self, stack: "Stack") -> None:
        self.environment = {**stack.environment, "DATA_DIR": str(stack.data_dir)}
        self.environment.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        self.errors: Path = stack.data_dir / "logs" / "operator.log"
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.Queue[str] = queue.Queue()

    @property
    def busy(self) -> bool:
        return self.lock.locked()

    def do(self, name: str, *, seconds: float = 60, **arguments: Any) -> Any:
        """Give an order, and return the answer. Raises OperatorFailed."""
        with self.lock:
            process = self._started()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"do": name, **arguments}) + "\n")
                process.stdin.flush()
                answer = json.loads(self.answers.get(timeout=seconds) or '{"error": "ended"}')
            except (OSError, queue.Empty) as failure:
                self._end()
                raise OperatorFailed(f"{name}: no answer within {seconds} seconds") from failure
        if "error" in answer:
            raise OperatorFailed(f"{name}: {answer['error']}")
        return answer["answer"]

    def _started(self) -> "subprocess.Popen[str]":
        if self.process is None or self.process.poll() is not None:
            self.errors.parent.mkdir(parents=True, exist_ok=True)
            with self.errors.open("a") as errors:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.actors.operator_process"],
                    cwd=BASE_DIR,
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            self.answers = queue.Queue()
            threading.Thread(target=_pass_on, args=(self.process, self.answers), daemon=True).start()
        return self.process

    def stop(self) -> None:
        self._end()

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _pass_on(process: "subprocess.Popen[str]", answers: "queue.Queue[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        answers.put(line)
    answers.put("")
