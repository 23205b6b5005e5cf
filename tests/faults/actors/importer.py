"""Imports files with `manage.py import`, starts it again after each kill, and knows the fate of each row."""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from config.common.env import BASE_DIR
from tests.faults.actors.workload import Batch, Record, Sent, Truth, World
from tests.support.processes.stack import Stack

ROWS = 2000
_ROWS_OF_A_CHUNK = 40
# The exit codes of an import that has sent all rows. 3 means that some rows were refused.
_FINISHED = (0, 3)
_RUNS_BEFORE_ONE_IS_LEFT_ALONE = 4
_AFTER_LONG = 1e12


class Importer:
    """Imports one file at a time. If the command is killed or fails, it is started again."""

    def __init__(self, stack: Stack, world: World, truth: Truth, seed: int) -> None:
        self.environment = {**stack.environment, "DATA_DIR": str(stack.data_dir)}
        self.environment["MAX_BATCH_RECORDS"] = str(_ROWS_OF_A_CHUNK)
        self.home: Path = stack.data_dir.parent / "imports"
        self.world, self.truth = world, truth
        self.random = random.Random(seed)
        self.files = self.runs = 0
        self.process: subprocess.Popen[str] | None = None
        self.thread: threading.Thread | None = None
        self.give_up_at = _AFTER_LONG

    def begin_or_kill(self, dataset: int) -> str | None:
        """Begin to import a file, or kill the command that imports one. Return what was done."""
        if self.thread is None or not self.thread.is_alive():
            self.files += 1
            self.thread = threading.Thread(target=self._import, args=(dataset, f"import-{self.files}"), daemon=True)
            self.thread.start()
            return f"{ROWS} rows into dataset {dataset}"
        process = self.process
        if process is None or process.poll() is not None:
            return None
        process.kill()
        return f"{process.pid} is killed"

    def finish(self, seconds: float) -> None:
        """Wait until the file is imported. After `seconds`, do not start the command again."""
        self.give_up_at = time.monotonic() + seconds
        if self.thread is not None:
            self.thread.join(seconds + 60)

    def stop(self) -> None:
        self.give_up_at = 0.0
        if self.process is not None:
            self.process.kill()

    def _import(self, dataset: int, name: str) -> None:
        records = [(name, number) for number in range(ROWS)]
        self.home.mkdir(exist_ok=True)
        path = self.home / f"{name}.ndjson"
        path.write_bytes(Batch(dataset, "lines", records, self.world.asked[dataset].optional).request()[1])
        began = time.monotonic()
        while not self._run(dataset, path):
            if time.monotonic() > self.give_up_at:
                with self.truth.lock:
                    self.truth.wrong.append(f"{name} was not imported")
                    self.truth.unresolved[dataset].update(records)
                return
            time.sleep(0.2)
        accepted = self._accepted(path, records)
        with self.truth.lock:
            self.truth.acknowledged[dataset].update(accepted)
            self.truth.sent.append(Sent(dataset, accepted, began, time.monotonic(), began))

    def _run(self, dataset: int, path: Path) -> bool:
        """Run the command once. Return whether the file is imported."""
        command = [sys.executable, "manage.py", "import", str(dataset), str(path)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=BASE_DIR, env=self.environment, stdout=pipe, stderr=pipe, text=True
        )
        try:
            _, said = self.process.communicate(timeout=self._killed_after())
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
        code = self.process.returncode
        with self.truth.lock:
            self.truth.answers[f"import: {code}"] += 1
        if "Traceback" in said:
            self.truth.found_wrong(f"import: {said[-2000:]}")
        return code in _FINISHED

    def _killed_after(self) -> float | None:
        """Return the seconds after which to kill the next run, or None to let it end. A run needs a second to start."""
        self.runs += 1
        return self.random.uniform(1, 5) if self.runs % _RUNS_BEFORE_ONE_IS_LEFT_ALONE else None

    def _accepted(self, path: Path, records: list[Record]) -> list[Record]:
        """Return the records of rows that were not refused."""
        refused = path.with_name(f"{path.name}.refused.ndjson")
        lines = refused.read_text().splitlines() if refused.exists() else []
        numbers = [json.loads(line)["row"] for line in lines]
        if len(numbers) != len(set(numbers)):
            self.truth.found_wrong(f"{path.name}: rows were refused twice")
        return [record for number, record in enumerate(records, 1) if number not in set(numbers)]
