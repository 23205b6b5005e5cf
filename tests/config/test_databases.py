"""PostgreSQL behind PgBouncer, through its socket, and with another DateStyle."""

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from config.common.env import BASE_DIR
from datasets.models import Dataset, Project
from datasets.services import create_dataset
from tests.conftest import FIELDS, RECORD, Api
from tests.support.processes.stack import free_port, wait_for
from tests.test_commands import environment

pytestmark = pytest.mark.django_db(transaction=True)

# Several threads share few connections. They make a project, send and store a record, and tidy the tables.
_USE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from django.core.management import call_command
from django.db import connections
from config.web import asgi
from datasets.models import ApiKey, Dataset

from ingest.storing import drain, upkeep
from tests.conftest import Api

dataset, token, record = Dataset.objects.get(pk=sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
assert Api(token, dataset).one(record).status_code == 202
assert drain.drain(dataset.pk) == 1
upkeep.note_key_use()

def look(_):
    try:
        upkeep.tidy_tables(everything=True)
        for _ in range(40):
            assert [each.created_at.year for each in Dataset.objects.iterator(chunk_size=1)][0] > 2000
        assert ApiKey.objects.get().last_used_at.year > 2000
    finally:
        connections.close_all()

with ThreadPoolExecutor(6) as threads:
    list(threads.map(look, range(6)))
"""


def use(url: str, api: Api, dataset: Dataset, project: Project) -> None:
    """Use the service with the database at this URL."""
    create_dataset(project=project, name="Another", fields=FIELDS)
    assert api.token is not None
    command = [sys.executable, "-c", _USE, str(dataset.pk), api.token, json.dumps(RECORD)]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=environment(DATABASE_URL=url), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def direct() -> str:
    """Return the URL of the test's database."""
    return environment()["DATABASE_URL"]


def socket_directory() -> str:
    with psycopg.connect(direct()) as connected:
        row = connected.execute("SHOW unix_socket_directories").fetchone()
    assert row is not None
    return str(row[0]).split(",")[0]


@pytest.mark.parametrize("style", ["German", "SQL, DMY", "Postgres"])
def test_postgresql_may_have_another_datestyle(api: Api, dataset: Dataset, project: Project, style: str) -> None:
    joined = "&" if urlsplit(direct()).query else "?"
    use(f"{direct()}{joined}options={quote(f'-c DateStyle={style}'.replace(', ', ','))}", api, dataset, project)


def test_postgresql_is_reached_through_its_socket(api: Api, dataset: Dataset, project: Project) -> None:
    url = urlsplit(direct())
    with psycopg.connect(direct()) as connected:
        port = connected.info.port
    use(f"postgres://{url.username}@{quote(socket_directory(), safe='')}:{port}{url.path}", api, dataset, project)


@pytest.fixture
def pgbouncer(tmp_path: Path) -> Iterator[str]:
    """Return the URL of a PgBouncer in transaction mode, with fewer connections than threads."""
    if shutil.which("pgbouncer") is None:
        assert not os.environ.get("CI"), "pgbouncer is not installed"
        pytest.skip("pgbouncer is not installed")
    port, path = free_port(), urlsplit(direct()).path
    with psycopg.connect(direct()) as connected:
        user, server = connected.info.user, connected.info.port
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={socket_directory()} port={server} user={user}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 100\n"
    )
    command = ["pgbouncer", str(settings)]
    if os.geteuid() == 0:  # PgBouncer refuses to run as root; the server's user can use the server's socket
        for each in (tmp_path, *tmp_path.parents[:2]):
            each.chmod(0o755)
        command[1:1] = ["-u", pwd.getpwuid(Path(socket_directory()).stat().st_uid).pw_name]
    with (tmp_path / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"postgres://{user}@127.0.0.1:{port}{path}"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "pgbouncer.log").read_text()
        try:
            with psycopg.connect(url, connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False

    try:
        wait_for(answers, "pgbouncer", seconds=30)
        yield url
    finally:
        process.terminate()
        process.wait()


def test_pgbouncer_may_pool_transactions(pgbouncer: str, api: Api, dataset: Dataset, project: Project) -> None:
    use(pgbouncer, api, dataset, project)
