"""Cause faults in a running stack. Each fault ends by itself, or the service recovers from it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from tests.faults.actors.importer import Importer
from tests.faults.actors.operators import Operator, OperatorFailed
from tests.faults.actors.workload import OPTIONAL_FIELDS, World
from tests.faults.causes.deck import Fault
from tests.faults.causes.restoring import RedisFiles, Restore
from tests.faults.causes.schemas import UNCERTAIN_SECONDS, Change, Schemas
from tests.faults.causes.storage import Disk, exchange
from tests.support.processes.roles import families
from tests.support.processes.stack import Stack

_SEARCH_SECONDS = 2.0
_ERRAND_SECONDS = 300  # a longer errand hangs; a shorter one may only wait for a busy machine


@dataclass
class History:
    """What happened in the run, and when."""

    lines: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    aloud: bool = False
    began: float = field(default_factory=time.monotonic)

    def note(self, what: str) -> None:
        line = f"{time.monotonic() - self.began:9.3f}  {what}"
        self.lines.append(line)
        if self.aloud:
            print(line, flush=True)


class Nemesis:
    """Causes the faults of a plan in a stack."""

    def __init__(
        self,
        stack: Stack,
        world: World,
        history: History,
        *,
        importer: Importer,
        ahead: Path,
        disk: Disk | None,
        kill_database: Callable[[], Callable[[], None]] | None,
    ) -> None:
        self.stack, self.world, self.history = stack, world, history
        self.importer = importer
        self.ahead, self.disk, self.kill_database = ahead, disk, kill_database
        self.admin, self.tidier = Operator(stack), Operator(stack)
        self.racers = (Operator(stack), Operator(stack))
        self.schemas = Schemas(self.admin, world, history.note)
        self.errands: list[threading.Thread] = []
        self.undoing: list[threading.Timer] = []
        self.redis = RedisFiles(stack.data_dir / "redis", self._tables, lambda: self._find("redis", "parent", 0))
        self.restores: list[Restore] = []
        self.away: set[Path] = set()  # directories that are replaced by something else now
        self.broken: list[str] = []  # faults that could not be undone
        self.healing = threading.Event()  # set when all lasting faults must end
        self.before_verdict: list[Callable[[], None]] = []  # functions to call when all clients have ended
        self.tasks = self._tasks()

    def attack(self, faults: Iterator[Fault], *, count: int, seconds: float) -> None:
        """Cause `count` faults, but stop after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.history.faults.total() < count and time.monotonic() < deadline:
            fault = next(faults)
            time.sleep(fault.pause)
            what = self._inject(fault)
            if what:
                self.history.faults[fault.kind] += 1
                self.history.note(f"{fault.kind}: {what}")

    def heal(self) -> None:
        """Undo at once all faults that last, and wait for errands."""
        self.healing.set()
        for timer in self.undoing:
            timer.cancel()
            timer.join()
            timer.function()  # does nothing the second time
        for errand in self.errands:
            errand.join(_ERRAND_SECONDS)
            if errand.is_alive():
                self.broken.append(f"{errand.name} hangs")
        self.history.note("healed")

    def stop(self) -> None:
        self.importer.stop()
        for operator in (self.admin, self.tidier, *self.racers):
            operator.stop()

    # -- the faults: each method returns what it did, or None if that is not possible now

    def _inject(self, fault: Fault) -> str | None:
        verb, _, rest = fault.kind.partition(" ")
        if verb in ("kill", "stop") and rest != "database":
            return self._signal(fault, verb, *rest.split())
        return self.tasks[fault.kind](fault)

    def _tasks(self) -> dict[str, Callable[[Fault], str | None]]:
        return {
            "storage: log gone": self._log_gone,
            "storage: root gone": self._root_gone,
            "storage: unmounted": self._unmounted,
            "storage: worker cannot write": self._worker_cannot_write,
            "storage: full": self._full,
            "schema": self._schema,
            "schema with grace": self._schema,
            "key revoked": self._revoke,
            "raced drains": self._race,
            "import": lambda fault: self.importer.begin_or_kill(self._dataset(fault)[0]),
            "tidy": self._tidy,
            "month's end": self._end_the_month,
            "redis: restored from an older copy": self._restore_redis,
            "clock: the table is ahead": self._clock,
            "clock: a millisecond is used up": self._clock,
            "kill database": self._database,
        }

    def _signal(self, fault: Fault, verb: str, name: str, part: str) -> str | None:
        process = self._find(name, part, fault.draw)
        if process is None:
            return None
        try:
            with self.redis.lock if name == "redis" else nullcontext():
                if verb == "kill":
                    process.kill()
                    return str(process.pid)
                process.suspend()
        except psutil.NoSuchProcess:
            return None
        self.undo_after(fault.seconds, lambda: _resume(process), f"{name} {part} goes on")
        return f"{process.pid} for {fault.seconds} s"

    def _find(self, name: str, part: str, draw: float) -> psutil.Process | None:
        deadline = time.monotonic() + _SEARCH_SECONDS
        while time.monotonic() < deadline:
            try:
                family = families(self.stack).get(name)
            except psutil.Error:
                family = None
            if family is not None and part == "parent":
                return family.parent
            if family is not None and family.children:
                return family.children[int(draw * len(family.children))]
            time.sleep(0.05)
        return None

    def _log_gone(self, fault: Fault) -> str | None:
        dataset, project = self._dataset(fault)
        return self._exchange(self._tables / f"project_{project}" / f"dataset_{dataset}" / "_delta_log", fault)

    def _root_gone(self, fault: Fault) -> str | None:
        return self._exchange(self._tables / f"project_{self._dataset(fault)[1]}", fault)

    def _unmounted(self, fault: Fault) -> str | None:
        return self._exchange(self._tables / f"project_{self._dataset(fault)[1]}", fault, mount_point=True)

    def _exchange(self, path: Path, fault: Fault, *, mount_point: bool = False) -> str | None:
        if any(path.is_relative_to(other) or other.is_relative_to(path) for other in [*self.away]):
            return None  # nested directories could not be put back in any order
        restore = exchange(path, mount_point=mount_point)
        if restore is None:
            return None
        self.away.add(path)

        def put_back() -> None:
            restore()
            self.away.discard(path)

        self.undo_after(fault.seconds, put_back, f"{path.name} is back")
        return f"{path.relative_to(self._tables)} is {'empty' if mount_point else 'a file'} for {fault.seconds} s"

    def _worker_cannot_write(self, fault: Fault) -> str | None:
        process = self._find("worker", "parent", fault.draw)
        if process is None:
            return None
        most = int(fault.draw * 8192)
        try:
            _, unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (most, unlimited))
        except psutil.NoSuchProcess:
            return None

        def lift() -> None:
            # Remove the limit entirely: the limit before this fault may be from another fault.
            if process.is_running():
                process.rlimit(psutil.RLIMIT_FSIZE, (unlimited, unlimited))

        self.undo_after(fault.seconds, lift, "the worker can write again")
        return f"{process.pid}: no file above {most} bytes for {fault.seconds} s"

    def _full(self, fault: Fault) -> str | None:
        if self.disk is None:
            return None
        self.disk.fill()
        self.undo_after(fault.seconds, self.disk.free, "there is room again")
        return f"for {fault.seconds} s"

    def _schema(self, fault: Fault) -> str | None:
        if self.admin.busy:
            return None
        dataset, _ = self._dataset(fault)
        name = list(OPTIONAL_FIELDS)[int(fault.draw * 997) % len(OPTIONAL_FIELDS)]
        grace = 2 * fault.seconds if fault.kind == "schema with grace" else 0.0
        change = Change(dataset, name, grace, ends_early=grace > 0 and fault.draw < 0.5)
        self.errand(fault, lambda: self.schemas.change(change))
        return f"dataset {dataset}: {name}" + (f", {grace} s of grace" if grace else "")

    def _revoke(self, fault: Fault) -> str | None:
        if self.admin.busy:
            return None
        projects = sorted(self.world.tokens)
        project = projects[int(fault.draw * len(projects))]
        self.errand(fault, lambda: self._replace_key(project))
        return f"of project {project}"

    def _replace_key(self, project: int) -> None:
        old, token = self.world.keys[project], self.world.tokens[project]
        self.insist(lambda: self.give_key(project))
        self.world.revoking.add(token)
        self.insist(lambda: self.admin.do("revoke", key=old))
        self.world.revoked[token] = time.monotonic()

    def give_key(self, project: int) -> None:
        """Issue a new key for the clients of a project."""
        issued = self.admin.do("new_key", project=project)
        self.world.keys[project], self.world.tokens[project] = issued["key"], issued["token"]

    def insist(self, order: Callable[[], Any]) -> None:
        for _ in range(8):
            try:
                order()
                return
            except OperatorFailed as failure:
                self.history.note(str(failure))
                time.sleep(1)
        raise OperatorFailed("gave up")

    def _race(self, fault: Fault) -> str | None:
        if any(racer.busy for racer in self.racers):
            return None
        dataset, _ = self._dataset(fault)
        for racer in self.racers:
            self.errand(fault, lambda racer=racer: racer.do("race", dataset=dataset, times=10))  # type: ignore[misc]
        return f"of dataset {dataset}, by two more"

    def _tidy(self, fault: Fault) -> str | None:
        if self.tidier.busy:
            return None
        # A sweep also deletes files that are not in the table. With 0 hours, it would delete files that are being
        # written. So vacuum then deletes only replaced files.
        sweep = fault.draw < 0.5
        self.errand(fault, lambda: self.tidier.do("tidy", everything=sweep, hours=24 if sweep else 0))
        return "everything" if sweep else "and vacuum at once"

    def _end_the_month(self, fault: Fault) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=float(self.ahead.read_text()))
        month = (moment.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        ahead = month - timedelta(seconds=0.2 + fault.draw) - datetime.now(UTC)
        draft = self.ahead.with_suffix(".draft")
        draft.write_text(str(ahead.total_seconds()))
        draft.replace(self.ahead)
        return f"{month:%Y-%m} begins"

    def _restore_redis(self, fault: Fault) -> str | None:
        if not self.redis.copy():
            return None

        def restore() -> None:
            self.world.uncertain_until = float("inf")  # Redis answers again before restore() returns
            try:
                restored = self.redis.restore(self.world.projects)
                if restored is not None:
                    self.restores.append(restored)
            finally:
                self.world.uncertain_until = time.monotonic() + UNCERTAIN_SECONDS

        self.undo_after(fault.seconds, restore, "Redis is as it was")
        return f"after {fault.seconds} s"

    def _clock(self, fault: Fault) -> str | None:
        if self.tidier.busy:
            return None
        dataset, _ = self._dataset(fault)
        order = "put_ahead" if fault.kind.endswith("ahead") else "use_up"
        self.errand(fault, lambda: self.tidier.do(order, dataset=dataset))
        return f"of dataset {dataset}"

    def _database(self, fault: Fault) -> str | None:
        assert self.kill_database is not None
        if any(timer.name == "database" and timer.is_alive() for timer in self.undoing):
            return None
        self.undo_after(fault.seconds, self.kill_database(), "the database is started", name="database")
        return f"for {fault.seconds} s"

    # -- helpers

    @property
    def _tables(self) -> Path:
        return Path(self.stack.environment["STORAGE_URL"])

    def _dataset(self, fault: Fault) -> tuple[int, int]:
        """Return a dataset and its project."""
        datasets = sorted(self.world.projects)
        dataset = datasets[int(fault.draw * len(datasets))]
        return dataset, self.world.projects[dataset]

    def errand(self, fault: Fault, order: Callable[[], Any]) -> None:
        """Do something slow in a thread, beside the next faults."""

        def run() -> None:
            try:
                order()
            except OperatorFailed as failure:  # because of another fault
                self.history.note(str(failure))

        errand = threading.Thread(target=run, name=fault.kind, daemon=True)
        self.errands.append(errand)
        errand.start()

    def undo_after(self, seconds: float, undo: Callable[[], None], what: str, name: str = "") -> None:
        once = threading.Lock()

        def run() -> None:
            if once.acquire(blocking=False):
                try:
                    undo()
                    self.history.note(what)
                except Exception as failure:  # noqa: BLE001  # an error of the tests themselves; the report shows it
                    self.broken.append(f"{what}: {failure!r}")

        timer = threading.Timer(seconds, run)
        timer.name, timer.daemon = name or timer.name, True
        self.undoing = [each for each in self.undoing if each.is_alive()] + [timer]
        timer.start()


def _resume(process: psutil.Process) -> None:
    try:
        process.resume()
    except psutil.NoSuchProcess:
        return
