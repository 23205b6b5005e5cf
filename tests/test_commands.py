"""Commands have help texts, and say what to do when they cannot do their work."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import connection

from config.common.commands import ServiceCommand
from config.common.env import BASE_DIR
from datasets.models import Dataset
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.support.entries import send
from tests.support.servers.outages import database_away, redis_away

OURS = [name for name, app in get_commands().items() if app in ("config", "datasets", "ingest", "quotas")]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process that uses the test's database and storage."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path="/" + connection.settings_dict["NAME"]).geturl()
    here = {"DATABASE_URL": database, "STORAGE_URL": settings.STORAGE_URL, "PYTHONUNBUFFERED": ""}
    return {**os.environ, **here, **changes}


def run(*arguments: object, **changes: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "manage.py", *map(str, arguments)]
    given = environment(**changes)
    return subprocess.run(command, cwd=BASE_DIR, env=given, capture_output=True, text=True, timeout=60)


def test_every_command_has_help_for_its_arguments() -> None:
    for name in OURS:
        command = load_command_class(get_commands()[name], name)
        assert isinstance(command, ServiceCommand)
        parser = command.create_parser("manage.py", name)
        assert len(command.help) > 40
        for action in parser._actions:
            assert action.help, (name, action.dest)


def test_up_reads_its_options_from_the_environment(db: None, tmp_path: Path) -> None:
    variables = {"PORT": "8123", "WEB_WORKERS": "5", "CELERY_WORKERS": "7", "DATA_DIR": str(tmp_path)}
    shown = " ".join(run("up", "--help", COLUMNS="1000", **variables).stdout.split())
    for option in (
        "--port PORT port of the API and the admin (default: 8123)",
        f"--data-dir DATA_DIR directory of all data and logs (now {tmp_path})",
        "--web WEB number of web processes (default: 5)",
        "--workers WORKERS number of processes that store records (default: 7)",
        "--no-demo do not make the demo project",
    ):
        assert option in shown
    assert "Ctrl-C or SIGTERM stops all processes" in shown


@pytest.mark.parametrize(
    "command", [("records", "1"), ("ledger",), ("replay", "1"), ("quota", "alice"), ("create_key", "shop")]
)
def test_without_a_database_a_command_says_what_to_do(transactional_db: None, command: tuple[str, ...]) -> None:
    with database_away(), pytest.raises(CommandError, match=r"^The database: .*DATA_DIR and the same settings"):
        call_command(*command)


def test_without_tables_a_command_says_what_to_do(db: None, tmp_path: Path) -> None:
    done = run("records", 1, DATABASE_URL="", DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "CommandError: The database: no such table: datasets_dataset. Is the service running, and does it have the "
        "same DATA_DIR and the same settings as this command? A new database needs `manage.py migrate`.\n"
    )


def test_without_redis_a_command_says_what_to_do(dataset: Dataset) -> None:
    with redis_away():
        for command in (("ledger",), ("quota", "owner")):
            with pytest.raises(CommandError, match=r"^Redis: .*DATA_DIR and the same settings"):
                call_command(*command)


def test_a_command_names_a_file_it_cannot_write(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "out.csv"
    with pytest.raises(CommandError, match=f"No such file or directory: '{path}'"):
        call_command("records", str(dataset.pk), "--format", "csv", "-o", str(path))


def test_a_command_names_a_storage_that_fails(api: Api, dataset: Dataset, tmp_path: Path) -> None:
    send(api, "a")
    drain(dataset.pk)
    for file in Path(settings.STORAGE_URL).rglob("*.json"):
        file.write_text("not a log")
    with pytest.raises(CommandError, match=r"^The storage: "):
        call_command("records", str(dataset.pk))


def test_an_export_shows_its_progress_on_a_terminal(api: Api, dataset: Dataset, tmp_path: Path) -> None:
    send(api, *range(1500))
    drain(dataset.pk)
    terminal, end = pty.openpty()
    command = [sys.executable, "manage.py", "records", str(dataset.pk), "--format", "ndjson", "-o", str(tmp_path / "o")]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment(), stdout=subprocess.PIPE, stderr=end, timeout=60)
    os.close(end)
    shown = ""
    with suppress(OSError), open(terminal, "rb", buffering=0) as screen:  # a terminal ends with EIO
        while some := screen.read(4096):
            shown += some.decode()
    assert (done.returncode, done.stdout) == (0, b"")
    assert "1500/1500" in shown
    assert len((tmp_path / "o").read_text().splitlines()) == 1500

    without = run("records", dataset.pk, "--format", "ndjson", "-o", tmp_path / "o")
    assert (without.stdout, without.stderr) == ("", "")
