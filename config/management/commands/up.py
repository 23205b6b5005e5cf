"""`manage.py up`: the whole service on one machine."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from redis.exceptions import BusyLoadingError, RedisError

from config import redis
from config.commands import ServiceCommand
from config.env import env
from config.private import UMASK, make_private
from config.supervise import allow_many_files, configuration, log_dir, programs, redis_command
from datasets import installation

_START_SECONDS = 60


class Command(ServiceCommand):
    """Starts web, workers, beat and (unless REDIS_URL names another) Redis; Ctrl-C or SIGTERM stops all of them."""

    help = (
        "Start everything on this machine: web, workers, beat, and Redis unless REDIS_URL names one. A process that "
        "dies is started again; Ctrl-C or SIGTERM stops them all. On the first start it migrates the database and "
        "makes a demo project, whose curl line it prints. The environment variable HOST is the address that it listens "
        "on (default: 127.0.0.1)."
    )

    _supervisor: "subprocess.Popen[bytes] | None" = None
    _stopping = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port",
            type=int,
            default=env.integer("PORT", 8000, least=1),
            help="of the API and the admin (default: %(default)s)",
        )
        parser.add_argument("--data-dir", help=f"where everything is kept (now {settings.DATA_DIR})")
        parser.add_argument(
            "--web",
            type=int,
            default=env.integer("WEB_WORKERS", 2, least=1),
            help="web processes (default: %(default)s)",
        )
        parser.add_argument(
            "--workers",
            type=int,
            default=env.integer("CELERY_WORKERS", 1, least=1),
            help="processes that store records (default: %(default)s)",
        )
        parser.add_argument("--no-demo", action="store_true", help="do not make the demo project")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["data_dir"] and Path(options["data_dir"]).expanduser().resolve() != settings.DATA_DIR:
            # Settings are read once, at the start of a process: start again with the right ones.
            os.environ["DATA_DIR"] = str(Path(options["data_dir"]).expanduser().resolve())
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        umask = os.umask(UMASK)
        make_private(settings.DATA_DIR)
        self._check_port(options["port"])
        self._prepare(demo=not options["no_demo"])
        if self._stopping:
            return
        config = settings.DATA_DIR / "supervisor" / "supervisord.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        processes = programs(port=options["port"], web=options["web"], workers=options["workers"], umask=umask)
        config.write_text(configuration(processes))
        sys.exit(self._supervise(config, options["port"], demo=not options["no_demo"]))

    def _check_port(self, port: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((env.text("HOST", "127.0.0.1"), port))
            except OSError as failure:
                raise CommandError(f"Port {port} cannot be used ({failure}); choose another with --port.") from failure

    def _prepare(self, *, demo: bool) -> None:
        """Migrate and make the demo, with the embedded Redis running for as long as that takes."""
        server = None
        if settings.REDIS_IS_EMBEDDED:
            if _answers():
                raise CommandError(
                    f"A Redis is already running in {settings.DATA_DIR}: is another `up` at work? "
                    f"Stop it, or choose another --data-dir."
                )
            server = subprocess.Popen(redis_command(), stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not self._stopping and not _answers():
                if time.monotonic() > deadline or (server and server.poll() is not None):
                    raise CommandError(f"Redis at {settings.REDIS_URL} does not answer.")
                time.sleep(0.05)
            if not self._stopping:
                call_command("migrate", verbosity=0, interactive=False)
                installation.check()
            if demo and not self._stopping:
                call_command("create_demo")
        finally:
            if server is not None:
                server.terminate()
                server.wait()

    def _supervise(self, config: Path, port: int, *, demo: bool) -> int:
        allow_many_files()
        # Celery will not start as root unless it is told that this is meant.
        environment = {**os.environ, "C_FORCE_ROOT": "1"} if os.geteuid() == 0 else None
        self._supervisor = supervisor = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
            start_new_session=True,
            env=environment,
        )
        if self._stopping:  # before there was anybody to tell
            supervisor.terminate()
        if self._wait_until_healthy(supervisor, port) and not self._stopping:
            self.stdout.write(f"\nListening on http://localhost:{port}/ · data in {settings.DATA_DIR}")
            self.stdout.write(f"Logs in {log_dir()}\n")
            if demo:
                call_command("create_demo", show=True, port=port, stdout=self.stdout)
            self.stdout.write("Ctrl-C stops everything.\n")
            self.stdout.flush()
        elif supervisor.poll() is None and not self._stopping:
            self.stderr.write(f"The web processes do not answer on port {port}; see {log_dir()}/web.log")
        code = supervisor.wait()
        return max(code, 0)

    def _stop(self, *_: Any) -> None:
        # Not by an exception: between two lines there may be a process that no `finally` knows of yet.
        self._stopping = True
        if self._supervisor is not None:
            self._supervisor.terminate()

    def _wait_until_healthy(self, supervisor: "subprocess.Popen[bytes]", port: int) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and supervisor.poll() is None and not self._stopping:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                    return True
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        return False


def _answers() -> bool:
    try:
        return bool(redis.client().ping())
    except BusyLoadingError:
        return False
    except (RedisError, OSError):
        return False
