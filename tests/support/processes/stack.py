"""Start, use, kill and stop the whole service as `manage.py up` runs it."""

import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import httpx
import psutil
from deltalake import DeltaTable

from config.common.env import BASE_DIR
from tests.faults.actors.operators import Operator
from tests.support.processes.required import absent
from tests.support.processes.roles import programs

T = TypeVar("T")

# This is long enough for a machine that runs other tests at the same time. These tests do not measure speed.
PATIENCE_SECONDS = 180.0
# The addresses of the tests' own servers. A stack starts its own servers.
_NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "STORAGE_URL", "SECRET_KEY", "DATA_DIR")
# All clients share this context. Otherwise each httpx client would read all certificates.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# This variable marks every process that a stack starts, so that the tests find processes that did not end.
_MARK = "E2E_STACK"
# A stack can import only what `make run` installs in a fresh clone, and nothing that the tests add.
_ONLY_REQUIRED = {"PYTHONPATH": str(Path(__file__).parent / "only_required"), "E2E_ABSENT": absent()}


def wait_for(check: Callable[[], T | None], what: str, *, seconds: float = PATIENCE_SECONDS) -> T:
    """Call `check` until its answer is true. Return the answer."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.05)
    return answer


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stack:
    """One `manage.py up` with its own data directory."""

    def __init__(self, data_dir: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.options = options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mark = secrets.token_hex(8)
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        self.environment = {**inherited, **_ONLY_REQUIRED, _MARK: self.mark, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.python = sys.executable
        self.prefix: list[str] = []  # a command that starts `up`, such as nohup or a shell with limits
        self.directory = BASE_DIR  # the working directory of `up`
        self.operator = Operator(self)
        self._seen: set[psutil.Process] = set()
        self._printed = data_dir.parent / f"{data_dir.name[-50:]}-{self.mark}.out"

    # -- starting and stopping

    def launch(self) -> None:
        """Start `up` without waiting."""
        manage = os.path.relpath(BASE_DIR / "manage.py", self.directory)
        command = [*self.prefix, self.python, manage, "up", "--port", str(self.port), *self.options]
        environment = dict(self.environment)
        if "--data-dir" not in self.options:  # with this option, `up` starts itself again
            environment["DATA_DIR"] = str(self.data_dir)
        with self._printed.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=self.directory, env=environment, stdout=out, stderr=subprocess.STDOUT
            )

    def start(self) -> None:
        """Start `up`, and wait until it says that it listens."""
        self.launch()
        wait_for(lambda: "Ctrl-C stops everything." in self.printed() or self.has_ended(), "start")
        assert not self.has_ended(), self.printed()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to `up`, and wait until it has ended with all its processes. Return its exit code."""
        assert self.process is not None
        self.operator.stop()
        self.processes()
        self.process.send_signal(number)
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        finally:
            left = self._end_what_is_left()
        assert not left, f"left behind after {number.name}: {left}"
        return code

    def _end_what_is_left(self) -> list[str]:
        """Kill the processes that still run, also after a test has failed. Return their PIDs and commands."""
        self.operator.stop()
        left = []
        for process in self.processes():
            try:
                left.append(f"{process.pid}: {' '.join(process.cmdline())}")
                process.kill()
            except psutil.NoSuchProcess:
                continue
        return left

    def has_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def printed(self) -> str:
        """Return what `up` has printed so far."""
        return self._printed.read_text()

    def log(self, program: str) -> str:
        """Return what a supervised program has logged so far."""
        path = self.data_dir / "logs" / f"{program}.log"
        return path.read_text() if path.exists() else ""

    # -- processes

    def processes(self) -> set[psutil.Process]:
        """Return all processes that run for this stack, including orphans."""
        assert self.process is not None
        if self.process.poll() is None:
            own = psutil.Process(self.process.pid)
            self._seen |= {own, *own.children(recursive=True)}
        for process in psutil.process_iter():
            if process not in self._seen and self._is_ours(process):
                self._seen.add(process)
        return {process for process in self._seen if _runs(process)}

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            # The embedded Redis overwrites its environment with its title.
            return process.environ().get(_MARK) == self.mark or str(self.data_dir) in " ".join(process.cmdline())
        except psutil.Error:
            return False

    def program(self, name: str) -> psutil.Process:
        """Return a supervised process by name: redis, web, worker, upkeep or beat."""
        return wait_for(lambda: programs(self).get(name), f"a process for {name}")

    def web_processes(self) -> set[int]:
        """Return the PIDs of the processes that answer requests."""
        return {child.pid for child in self.program("web").children()}

    def pid_behind(self, client: httpx.Client, pids: Iterable[int]) -> int:
        """Return the PID of the web process to which a client's only connection leads."""
        stream = client.get("/healthz").extensions["network_stream"]
        address = tuple(stream.get_extra_info("client_addr"))
        for pid in pids:
            if any(each.raddr and tuple(each.raddr) == address for each in psutil.Process(pid).net_connections("tcp4")):
                return pid
        raise AssertionError(f"none of the web processes {[*pids]} holds the connection from {address}")

    # -- clients and commands

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """Return an HTTP client with a project's API key."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=_NO_TLS, **options)

    def clients_everywhere(self, each: int, token: str | None = None) -> dict[int, list[httpx.Client]]:
        """Return `each` clients for each web process, by its PID. A client's only connection leads to its process."""
        found: dict[int, list[httpx.Client]] = {pid: [] for pid in self.web_processes()}
        while any(len(clients) < each for clients in found.values()):
            client = self.client(token, limits=httpx.Limits(max_connections=1, keepalive_expiry=None))
            clients = found[self.pid_behind(client, found)]
            if len(clients) < each:
                clients.append(client)
            else:
                client.close()
        return found

    def manage(self, *arguments: str) -> str:
        """Run a management command while the stack runs. Return what the command prints to standard output."""
        done = self.run_command(*arguments)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def do(self, *arguments: str) -> str:
        """Do the same as `manage` in the operator process. This is faster, because that process already runs."""
        printed = self.operator.do("command", arguments=arguments)
        assert isinstance(printed, str)
        return printed

    def run_command(self, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        """Run a management command. It may fail."""
        environment = {**self.environment, "DATA_DIR": str(self.data_dir)}
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, timeout=120)

    def shell(self, line: str) -> str:
        """Run a line in a shell in the repository, without DATA_DIR. Return what it prints."""
        command = ["sh", "-c", line]
        done = subprocess.run(command, cwd=BASE_DIR, env=self.environment, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def make_dataset(self, project: str, fields: Mapping[str, Any], *, owner: str = "ada") -> tuple[int, int, str]:
        """Create a project with one dataset and one key. Return the project's ID, the dataset's ID and the token."""
        schema = self._printed.with_suffix(f".{project}.json")
        schema.write_text(json.dumps({"fields": fields}))
        project_id = int(self.do("create_project", project, "--owner", owner))
        dataset_id = int(self.do("create_dataset", project, "Measured", "--schema", str(schema)))
        return project_id, dataset_id, self.do("create_key", project).strip()

    # -- what is stored

    @property
    def storage(self) -> str:
        """The root of the storage."""
        return self.environment.get("STORAGE_URL", str(self.data_dir / "tables"))

    def ledger(self, dataset_id: int) -> dict[str, Any]:
        """Return the dataset's ledger."""
        (balance,) = json.loads(self.do("ledger", "--dataset", str(dataset_id), "--json"))
        assert isinstance(balance, dict)
        return balance

    def wait_for_rows(self, dataset_id: int, least: int, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the table holds at least `least` rows. Reading its log is much faster than a command."""

        def stored() -> bool:
            (found,) = [*Path(self.storage).glob(f"project_*/dataset_{dataset_id}/_delta_log")] or (None,)
            return found is not None and DeltaTable(str(found.parent)).count() >= least

        try:
            wait_for(stored, f"{least} rows", seconds=seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}; {self.ledger(dataset_id)}\n{self.log('worker')[-3000:]}") from None

    def wait_until_drained(self, dataset_id: int, accepted: int, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the table, and then the ledger, shows that all accepted records are stored."""
        self.wait_for_rows(dataset_id, accepted, seconds=seconds)
        last: dict[str, Any] = {}

        def drained() -> bool:
            last.update(self.ledger(dataset_id))
            return bool(last["stored"] == accepted and last["queued"] == 0)

        try:
            wait_for(drained, f"{accepted} stored", seconds=seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}; {last}\n{self.log('worker')[-3000:]}") from None
        assert last == {
            "dataset_id": dataset_id,
            "accepted": accepted,
            "stored": accepted,
            "queued": 0,
            "quarantined": 0,
            "adds_up": True,
        }

    def table(self, project_id: int, dataset_id: int) -> DeltaTable:
        """Open the dataset's Delta table as a reader outside the service does."""
        return DeltaTable(f"{self.storage}/project_{project_id}/dataset_{dataset_id}")

    def query(self, project_id: int, dataset_id: int, sql: str) -> list[tuple[Any, ...]]:
        """Query the dataset's table with DuckDB. In the SQL, the table's name is `records`."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("records", self.table(project_id, dataset_id).to_pyarrow_dataset())
            answer = connection.sql(sql).to_arrow_table()  # fetchall() would need pytz for timestamps
            return list(zip(*(column.to_pylist() for column in answer.columns), strict=True))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running(
    data_dir: Path, *options: str, environment: Mapping[str, str] | None = None, files: int | None = None
) -> Iterator[Stack]:
    """Run a stack during a block. Its processes may open at most `files` files. The processes end with the block."""
    stack = Stack(data_dir, *options, environment=environment)
    if files is not None:
        stack.prefix = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    try:
        stack.start()
        yield stack
        if not stack.has_ended():
            assert stack.stop() == 0
    finally:
        stack._end_what_is_left()


def words(pattern: str, text: str) -> str:
    """Return the first group of a pattern that must be in the text."""
    found = re.search(pattern, text, re.DOTALL)
    assert found is not None, f"{pattern!r} is not in:\n{text}"
    return found[1]
