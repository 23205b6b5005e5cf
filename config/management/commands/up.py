"""`manage.py up`: the whole service on one machine."""

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from redis.exceptions import BusyLoadingError, RedisError

from config.common import redis
from config.common.cluster.key_tags import is_cluster
from config.common.commands import ServiceCommand
from config.common.env import BASE_DIR
from config.common.private import UMASK, make_private
from config.processes import attendant, cluster
from config.processes.startup import (
    LEFTOVER_SECONDS,
    Address,
    DirectoryLock,
    is_healthy,
    listen_address,
    require_port,
    require_semaphores,
    why_redis_ended,
)
from config.processes.supervise import (
    END_WITH_PARENT,
    Program,
    allow_many_files,
    configuration,
    log_dir,
    programs,
    redis_commands,
    redis_directory,
)
from datasets.management.commands.create_demo import SLUG as DEMO_SLUG
from datasets.models import Project

_START_SECONDS = 60


class Command(ServiceCommand):
    """Start web, workers, upkeep, beat and, unless REDIS_URL is set, Redis. Ctrl-C or SIGTERM stops them all."""

    help = (
        "Start the whole service on this machine: web, workers, upkeep, beat, and Redis unless REDIS_URL is set. "
        "supervisor restarts a process that dies. Ctrl-C or SIGTERM stops all processes. Each start migrates the "
        "database and the data in Redis. The first start makes a demo project and prints a curl command for it. The "
        "service listens on the address in the environment variable HOST (default: 127.0.0.1)."
    )

    requires_system_checks: Any = "__all__"

    _supervisor: "subprocess.Popen[bytes] | None" = None
    _stopping = False
    _is_first_start = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port",
            type=int,
            default=settings.PORT,
            help="port of the API and the admin (default: %(default)s)",
        )
        parser.add_argument("--data-dir", help=f"directory of all data and logs (now {settings.DATA_DIR})")
        parser.add_argument(
            "--web",
            type=int,
            default=settings.WEB_WORKERS,
            help="number of web processes (default: %(default)s)",
        )
        parser.add_argument(
            "--workers",
            type=int,
            default=settings.CELERY_WORKERS,
            help="number of processes that store records (default: %(default)s)",
        )
        parser.add_argument(
            "--cluster",
            type=int,
            metavar="N",
            help="use a Redis Cluster of N primaries (at least 3) and N replicas on this machine, for trials",
        )
        parser.add_argument("--no-demo", action="store_true", help="do not make the demo project")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["data_dir"] and Path(options["data_dir"]).expanduser().resolve() != settings.DATA_DIR:
            # A process reads its settings only when it starts. Start this program again, with the other directory.
            os.environ["DATA_DIR"] = str(Path(options["data_dir"]).expanduser().resolve())
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
        for number in attendant.SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._stop)
        umask = os.umask(UMASK)
        make_private(settings.DATA_DIR)
        port, address = options["port"], listen_address()
        self._lock = DirectoryLock(settings.DATA_DIR)
        try:
            self._choose_redis(options["cluster"])
            require_port(address, port, LEFTOVER_SECONDS if self._lock.follows_a_kill else 0)
            require_semaphores()
            self._prepare(demo=not options["no_demo"])
            if not self._stopping:
                processes = programs(port=port, web=options["web"], workers=options["workers"], umask=umask)
                sys.exit(self._supervise(processes, address, port, demo=not options["no_demo"]))
        finally:
            self._lock.release()

    def _prepare(self, *, demo: bool) -> None:
        """Migrate the database and make the demo. The embedded Redis runs only for this; supervisor starts it later."""
        servers = self._start_redis() if settings.REDIS_IS_EMBEDDED else {}
        try:
            if servers and is_cluster():
                self._wait(cluster.answers, servers)
                cluster.form()
            self._wait(_answers, servers)
            if not self._stopping:
                call_command("migrate", verbosity=0, interactive=False)
                call_command("migrate_queue", verbosity=0)
            if demo and not self._stopping:
                self._is_first_start = not Project.objects.filter(slug=DEMO_SLUG).exists()
                call_command("create_demo")
        finally:
            for server in servers.values():
                server.terminate()
            for server in servers.values():
                server.wait()

    def _choose_redis(self, primaries: int | None) -> None:
        """Make a cluster if `--cluster` asks for one and there is none.

        Then start this program again, because its settings must name another Redis.
        """
        if not settings.REDIS_IS_EMBEDDED:
            if primaries is not None:
                raise CommandError("--cluster starts servers of its own. Unset REDIS_URL, or leave --cluster out.")
            return
        cluster.require_same(primaries)
        if primaries is not None and not is_cluster():
            cluster.create(primaries)
            self._lock.release()
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606

    def _wait(self, is_done: Callable[[], bool], servers: "Mapping[str, subprocess.Popen[bytes]]") -> None:
        """Wait until `is_done` returns True or `up` must stop. Raises CommandError if Redis ends or is too slow."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._stopping and not is_done():
            for name, server in servers.items():
                if server.poll() is not None:
                    raise why_redis_ended(redis_directory(name), _log_at_start(name))
            if time.monotonic() > deadline:
                raise CommandError("The Redis of REDIS_URL does not answer.")
            time.sleep(0.05)

    def _start_redis(self) -> "dict[str, subprocess.Popen[bytes]]":
        deadline = time.monotonic() + (LEFTOVER_SECONDS if self._lock.follows_a_kill else 0)
        while _answers():
            if time.monotonic() > deadline:
                raise CommandError(
                    f"A Redis that no `up` started is running in {settings.DATA_DIR}. "
                    "Stop it, or choose another --data-dir."
                )
            time.sleep(0.1)
        log_dir().mkdir(parents=True, exist_ok=True)
        cluster.discard_unformed()
        servers = {}
        for name, command in redis_commands().items():
            with _log_at_start(name).open("wb") as log:
                servers[name] = subprocess.Popen(
                    [*END_WITH_PARENT, *command], stdout=log, stderr=log, cwd=BASE_DIR, start_new_session=True
                )
        return servers

    def _supervise(self, processes: list[Program], address: Address, port: int, *, demo: bool) -> int:
        config = settings.DATA_DIR / "supervisor" / "supervisord.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(configuration(processes))
        allow_many_files()
        self._supervisor = supervisor = subprocess.Popen(
            [*END_WITH_PARENT, sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
            cwd=BASE_DIR,
            env=_environment(address),
            pass_fds=[self._lock.descriptor],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        if self._stopping:  # the signal came before there was a supervisor
            supervisor.terminate()
        try:
            if self._wait_until_healthy(supervisor, address, port) and not self._stopping:
                self._greet(address, port, demo=demo)
            elif supervisor.poll() is None and not self._stopping:
                self.stderr.write(f"The web processes do not answer on port {port}; see {log_dir()}/web.log")
        except BaseException:
            supervisor.terminate()
            supervisor.wait()
            raise
        if supervisor.poll() is None:
            attendant.replace_this_process(supervisor.pid, self._lock.descriptor)
        return max(supervisor.wait(), 0)

    def _greet(self, address: Address, port: int, *, demo: bool) -> None:
        said = StringIO()
        said.write(
            f"\nListening on http://{address.name}:{port}/ - data in {settings.DATA_DIR}\nLogs in {log_dir()}\n\n"
        )
        if demo:  # print the password and the key only once, because a log may keep the output
            how = {"show": True} if self._is_first_start else {"hint": True}
            call_command("create_demo", **how, host=address.name, port=port, stdout=said)
        said.write("Ctrl-C stops everything.\n")
        try:
            self.stdout.write(said.getvalue())
            self.stdout.flush()
        except OSError:
            # The reader has closed the pipe (`| head`). The service must not stop for this. At exit, Python writes what
            # is still buffered. Send it to /dev/null.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _stop(self, *_: Any) -> None:
        # Raise no exception here: it could come after a process has started, and before a `finally` knows the process.
        self._stopping = True
        if self._supervisor is not None:
            self._supervisor.terminate()

    def _wait_until_healthy(self, supervisor: "subprocess.Popen[bytes]", address: Address, port: int) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and supervisor.poll() is None and not self._stopping:
            if is_healthy(address, port) and (not is_cluster() or _answers()):
                return True
            time.sleep(0.1)
        return False


def _environment(address: Address) -> dict[str, str]:
    """Return the environment of the processes. By default the admin also accepts the host name that `up` prints."""
    environment = {**os.environ, "C_FORCE_ROOT": "1"}  # lets Celery run as root
    if not environment.get("ALLOWED_HOSTS"):
        environment["ALLOWED_HOSTS"] = ",".join({**dict.fromkeys(settings.ALLOWED_HOSTS), address.name: None})
    return environment


def _log_at_start(name: str) -> Path:
    return log_dir() / f"{name}-at-start.log"


def _answers() -> bool:
    if settings.REDIS_IS_EMBEDDED and is_cluster():
        return cluster.is_ready()
    try:
        return bool(redis.client().ping())
    except BusyLoadingError:
        return False
    except (RedisError, OSError):
        return False
