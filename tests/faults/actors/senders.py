"""Programs that send records with the clients for TypeScript and Python. They are killed, and started again.

The Node.js program has no spool: if it is killed, the fate of the records that it had not confirmed is unknown. The
Python programs, one with threads and one with asyncio, have one: each record that `enqueue` has confirmed is accepted,
or is in the spool's file of refused records, even after a kill.
"""

import json
import math
import random
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.clients.python.artifact import environment
from tests.clients.typescript.artifact import program
from tests.faults.actors.workload import BASE_SCHEMA, OPTIONAL_FIELDS, VALUES, Sent, Truth, World
from tests.support.tools import executable

NODE, PYTHON, ASYNCIO = "node", "python", "asyncio"
_HERE = Path(__file__).parent
# Some programs retry for a shorter time than faults last, so that clients give up on records.
_RETRY_SECONDS = (3.0, *[600.0] * 4)
# The last Python programs send what is left in the spool within this time, also on a busy machine.
_LAST_SECONDS = 150.0
_UNKNOWN = "OutcomeUnknownError"
_EXPECTED: dict[str, set[str | None]] = {
    "ValidationError": {"missing_field", "extra_field"},
    "AuthenticationError": {"invalid_api_key"},
    "QuotaExceededError": {"quota_exceeded"},
    "ClosedError": {None},  # the Python client is closed before the service is back: the spool has the records
}


def commands() -> dict[str, list[str | Path]]:
    """Install both clients. Return the command of each program, without its settings."""
    script = shutil.copy(_HERE / "sender.mjs", program())
    python = [environment() / "bin" / "python", _HERE / "python_sender.py"]
    return {NODE: [executable("node"), script], PYTHON: [*python, "threads"], ASYNCIO: [*python, "asyncio"]}


class Sender(threading.Thread):
    """Runs a program again and again, and knows the fate of each of its records."""

    def __init__(
        self, kind: str, dataset: int, *, command: list[str | Path], url: str, spool: Path, world: World, truth: Truth
    ) -> None:
        super().__init__(name=f"{kind}-{dataset}", daemon=True)
        self.kind, self.dataset, self.command, self.url, self.spool = kind, dataset, command, url, spool / kind
        self.spool.mkdir(exist_ok=True)
        self.world, self.truth, self.project = world, truth, world.projects[dataset]
        self.random = random.Random(self.name)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        self.is_killed = False
        self.token = ""
        # For each round: the number of its first record, the number after its last one, and the time when it began.
        self.begun: list[tuple[int, int, float]] = []
        self.running: set[int] = set()  # records whose fate the running program has not printed yet
        self.confirmed: set[int] = set()
        self.fates: dict[str, set[int]] = defaultdict(set)  # by the name of the error, or "accepted" or "killed"
        self.known_at: dict[int, float] = {}

    # -- methods for the fault run

    def kill(self) -> str | None:
        """Kill the program as the kernel does when memory runs out. It is started again."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                return None
            self.is_killed = True
            self.process.kill()
            return f"{self.name}, {self.process.pid}"

    def is_sending(self) -> bool:
        return "accepted" in self.fates

    def finish(self, seconds: float) -> None:
        """Let the program close its client and end. With 0 `seconds`, kill it."""
        self.over.set()
        self._close()
        if not seconds:
            self.kill()

    def run(self) -> None:
        while not self.over.is_set():
            self._run_once()
        if self.kind != NODE and any(self.spool.glob(f"{self.dataset}-*.spool")):
            self._run_once(onlySpool=True, closeSeconds=_LAST_SECONDS)
        self._tell()

    # -- the program

    def _run_once(self, **more: Any) -> None:
        """Run the program until it is killed, the service refuses its key or its fields, or `finish` is called."""
        self.token, optional = self.world.tokens[self.project], sorted(self.world.asked[self.dataset].optional)
        settings = {
            "url": self.url,
            "key": self.token,
            "dataset": self.dataset,
            "fields": {**BASE_SCHEMA, **{name: OPTIONAL_FIELDS[name] for name in optional}},
            "values": {name: VALUES[OPTIONAL_FIELDS[name]] for name in optional},
            "name": self.name,
            "sequence": self.begun[-1][1] if self.begun else 0,
            "retrySeconds": self.random.choice(_RETRY_SECONDS),
            "spool": str(self.spool),
            "onlySpool": False,
            "closeSeconds": 10.0,
            **more,
        }
        pipe = subprocess.PIPE
        with (self.spool / f"{self.name}.errors").open("a+") as errors:
            with self.lock:
                self.is_killed = False
                self.process = subprocess.Popen(
                    [*self.command, json.dumps(settings)], stdin=pipe, stdout=pipe, stderr=errors, text=True
                )
            if self.over.is_set():
                self._close()
            self._follow()
            errors.seek(0)
            if said := errors.read().strip():
                self.truth.found_wrong(f"{self.name}: {said[-2000:]}")
            errors.truncate(0)

    def _close(self) -> None:
        """Let the program close its client."""
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                assert self.process.stdin is not None
                try:
                    self.process.stdin.write("stop\n")
                    self.process.stdin.flush()
                except OSError:
                    return  # it has just ended

    def _follow(self) -> None:
        """Read what the program prints, until it ends."""
        assert self.process is not None
        assert self.process.stdout is not None
        unsettled = -1
        for line in self.process.stdout:
            if not line.endswith("\n"):
                break  # the program was killed while it wrote this line
            what, *words = json.loads(line)
            if what == "closed":
                (unsettled,) = words
            else:
                getattr(self, f"_{what}")(*words)
        code = self.process.wait()
        if not self.is_killed and (code or unsettled or (self.running and self.kind == NODE)):
            self.truth.found_wrong(
                f"{self.name}: exit code {code}, {unsettled} unsettled, {len(self.running)} without a fate"
            )
        self.fates["killed"] |= self.running
        self.running.clear()

    def _begun(self, first: int, end: int, at: float) -> None:
        self.begun.append((first, end, at))
        self.running.update(range(first, end))

    def _confirmed(self, first: int, end: int) -> None:
        self.confirmed.update(range(first, end))

    def _accepted(self, number: int) -> None:
        self._settle(number, "accepted")

    def _refused(self, number: int, error: str, code: str | None) -> None:
        self._settle(number, error)
        allowed = _EXPECTED.get(error)
        if allowed is not None and code not in allowed:
            self.truth.found_wrong(f"unexpected: {self.name} {error} {code}")
        if error == "AuthenticationError" and self.token not in self.world.revoking:
            self.truth.found_wrong(f"refused by mistake: {self.name} has a key that was not revoked")
        if error in ("AuthenticationError", "ValidationError"):
            self._close()  # the next run has the new key and the new fields

    def _settle(self, number: int, fate: str) -> None:
        if number not in self.running:
            self.truth.found_wrong(f"{self.name}: record {number} has two fates")
        self.running.discard(number)
        self.fates[fate].add(number)
        self.known_at[number] = time.monotonic()
        with self.truth.lock:
            self.truth.answers[f"{self.kind}: {fate}"] += 1

    # -- the fate of all records

    def _tell(self) -> None:
        accepted, refused, unknown = self._of_program() if self.kind == NODE else self._of_spool()
        for one, other in ((accepted, refused), (accepted, unknown), (refused, unknown)):
            if both := one & other:
                self.truth.found_wrong(f"{self.name}: {len(both)} records have two fates, such as {min(both)}")
        with self.truth.lock:
            for fate, numbers in (
                (self.truth.acknowledged, accepted),
                (self.truth.rejected, refused),
                (self.truth.unresolved, unknown),
            ):
                fate[self.dataset].update((self.name, number) for number in numbers)
            for first, end, began in self.begun:
                known_at = max(self.known_at.get(number, math.inf) for number in range(first, end))
                records = [(self.name, number) for number in range(first, end)]
                self.truth.sent.append(Sent(self.dataset, records, began, known_at, began))
                self.truth.enqueued += end - first
                if math.isfinite(known_at):
                    self.truth.longest_seconds = max(self.truth.longest_seconds, known_at - began)

    def _of_program(self) -> tuple[set[int], set[int], set[int]]:
        """Return the records that are accepted, that are refused, and whose fate is unknown."""
        accepted, unknown = self.fates["accepted"], self.fates[_UNKNOWN] | self.fates["killed"]
        return accepted, set().union(*self.fates.values()) - accepted - unknown, unknown

    def _of_spool(self) -> tuple[set[int], set[int], set[int]]:
        """Return the same three sets as `_of_program`.

        A record that `enqueue` has confirmed is accepted, unless the spool's file says that it was refused, or that its
        fate is unknown.
        """
        refused: set[int] = set()
        unknown: set[int] = set()
        path = self.spool / "refused.ndjson"
        for line in path.read_text().splitlines() if path.exists() else []:
            told = json.loads(line)
            if told["record"]["client"] == self.name:
                (unknown if told["may_be_accepted"] else refused).add(int(told["record"]["sequence"]))
        told_refused = set().union(*self.fates.values())
        for fate in ("accepted", "killed", _UNKNOWN, "ClosedError"):
            told_refused -= self.fates[fate]
        if missing := told_refused - refused:
            self.truth.found_wrong(f"{self.name}: {len(missing)} refused records are not in {path.name}")
        accepted = self.fates["accepted"] | (self.confirmed - refused - unknown)
        begun = {number for first, end, _ in self.begun for number in range(first, end)}
        return accepted, refused, unknown | (begun - accepted - refused)
