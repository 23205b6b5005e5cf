"""Settings from the environment: each variable is read, and one error names all wrong variables."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.common.env import BASE_DIR, embedded_redis_socket, machine_memory, storage_is_directory
from config.environment import read_environment
from tests.support.documents import table

NAMES = [row[0].strip("`") for row in table("settings")]
NUMBERS = [row[0].strip("`") for row in table("settings") if re.fullmatch(r"`-?\d+(\.\d+)?`", row[1])]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that reads the settings with the given variables and a data directory of its own."""

    def settings(**variables: str) -> dict[str, Any]:
        with monkeypatch.context() as environment:
            for name in NAMES:
                environment.delenv(name, raising=False)
            for name, value in {"DATA_DIR": str(tmp_path), **variables}.items():
                environment.setenv(name, value)
            return runpy.run_path(str(BASE_DIR / "config" / "settings.py"))

    return settings


Read = Callable[..., dict[str, Any]]


def test_without_variables_everything_is_in_data_dir(read: Read, tmp_path: Path) -> None:
    found = read()
    assert found["DATABASES"]["default"]["ENGINE"] == "django.db.backends.sqlite3"
    assert found["DATABASES"]["default"]["NAME"] == tmp_path / "db.sqlite3"
    assert (found["REDIS_IS_EMBEDDED"], found["REDIS_URL"]) == (True, f"unix://{embedded_redis_socket(tmp_path)}?db=0")
    assert found["CELERY_BROKER_URL"] == f"redis+socket://{embedded_redis_socket(tmp_path)}?virtual_host=1"
    assert found["STORAGE_URL"] == str(tmp_path / "tables")
    assert found["SECRET_KEY"] == found["API_KEY_SECRET"] == (tmp_path / "secret_key").read_text()
    assert len(found["SECRET_KEY"]) >= 50
    assert read()["SECRET_KEY"] == found["SECRET_KEY"]


def test_an_empty_variable_counts_as_unset(read: Read) -> None:
    empty = dict.fromkeys(set(NAMES) - {"DATA_DIR"}, "")
    mine, theirs = read(), read(**empty)
    assert {name: mine[name] for name in mine if name.isupper()} == {
        name: theirs[name] for name in mine if name.isupper()
    }


def pool(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = settings["CACHES"]["default"]["OPTIONS"]["CONNECTION_POOL_KWARGS"]
    return found


OTHERS: dict[str, tuple[str, Callable[[dict[str, Any]], object], object]] = {
    "DATA_DIR": ("/tmp/./", lambda s: s["DATA_DIR"], Path("/tmp")),
    "DATABASE_URL": ("postgres://u:p%40@h:5433/n", lambda s: s["DATABASES"]["default"].get("PASSWORD"), "p@"),
    "REDIS_URL": (
        "redis://h:1/2",
        lambda s: (s["CACHES"]["default"]["LOCATION"], s["REDIS_IS_EMBEDDED"]),
        (["redis://h:1/2"], False),
    ),
    "CELERY_BROKER_URL": ("redis://h:1/3", lambda s: s["CELERY_BROKER_URL"], "redis://h:1/3"),
    "STORAGE_URL": ("s3://b/p", lambda s: s["STORAGE_URL"], "s3://b/p"),
    "SECRET_KEY": ("$ecret,", lambda s: (s["SECRET_KEY"], s["API_KEY_SECRET"]), ("$ecret,", "$ecret,")),
    "SECRET_KEY_FALLBACKS": (
        "a, b",
        lambda s: (s["SECRET_KEY_FALLBACKS"], s["API_KEY_SECRET_FALLBACKS"]),
        (["a", "b"],) * 2,
    ),
    "API_KEY_SECRET": ("x", lambda s: s["API_KEY_SECRET"], "x"),
    "API_KEY_SECRET_FALLBACKS": (
        "a,b",
        lambda s: (s["API_KEY_SECRET_FALLBACKS"], s["SECRET_KEY_FALLBACKS"]),
        (["a", "b"], []),
    ),
    "HOST": ("0.0.0.0", lambda s: s["HOST"], "0.0.0.0"),
    "DEBUG": ("on", lambda s: s["DEBUG"], True),
    "ALLOWED_HOSTS": ("a.example,b.example", lambda s: s["ALLOWED_HOSTS"], ["a.example", "b.example"]),
    "CSRF_TRUSTED_ORIGINS": ("https://a.example", lambda s: s["CSRF_TRUSTED_ORIGINS"], ["https://a.example"]),
    "HTTPS": (
        "True",
        lambda s: (s["SECURE_SSL_REDIRECT"], s["SESSION_COOKIE_SECURE"], s["CSRF_COOKIE_SECURE"]),
        (True,) * 3,
    ),
    "LOGIN_FAILURE_LIMIT": ("77", lambda s: s["AXES_FAILURE_LIMIT"], 77),
    "LOGIN_LOCKOUT_MINUTES": ("77", lambda s: s["AXES_COOLOFF_TIME"], timedelta(minutes=77)),
    "LOG_LEVEL": ("ERROR", lambda s: s["LOGGING"]["loggers"]["ingest"], {"level": "ERROR"}),
    "QUERY_MEMORY_BYTES": ("100000000", lambda s: s["QUERY_MEMORY_BYTES"], 100_000_000),
    "REDIS_TIMEOUT_SECONDS": ("7", lambda s: pool(s)["socket_connect_timeout"], 7),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_setting_is_read(read: Read, name: str) -> None:
    if name in OTHERS:
        text, look, expected = OTHERS[name]
    else:  # a number whose setting has the variable's name
        text, look, expected = "77", lambda settings: settings[name], 77
    assert look(read()) != expected
    assert look(read(**{name: text})) == expected


def test_every_setting_is_used_by_the_code() -> None:
    product = [path for app in ("config", "datasets", "ingest", "quotas") for path in (BASE_DIR / app).rglob("*.py")]
    source = "\n".join(path.read_text() for path in product)
    for name in sorted(set(NAMES) - set(OTHERS)):
        assert re.search(rf"settings\.{name}\b", source), name


@pytest.mark.parametrize("text", ["many", "-2", "nan", "1e999"])
def test_every_wrong_number_is_named(read: Read, text: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(**dict.fromkeys(NUMBERS, text))
    found = [line.partition(": expected ")[0] for line in str(refusal.value).splitlines()]
    assert sorted(found) == sorted(f"{name}={text}" for name in NUMBERS)


DATABASE_REFUSAL = (
    "DATABASE_URL: expected postgres://user:password@host:port/name or sqlite:////path. In a password, write special "
    "characters as %XX."
)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("DEBUG", "flase", "DEBUG=flase: expected true or false."),
        ("HTTPS", "2", "HTTPS=2: expected true or false."),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL=LOUD: expected one of CRITICAL, DEBUG, ERROR, INFO, WARNING."),
        ("MAX_BODY_BYTES", "10MB", "MAX_BODY_BYTES=10MB: expected a whole number, at least 1."),
        ("MAX_BODY_BYTES", "0", "MAX_BODY_BYTES=0: expected a whole number, at least 1."),
        ("DEFAULT_QUOTA_LIMIT", "-2", "DEFAULT_QUOTA_LIMIT=-2: expected a whole number, at least -1."),
        ("DISPATCH_SECONDS", "0.01", "DISPATCH_SECONDS=0.01: expected a number, at least 0.05."),
        ("STORAGE_URL", "file://host/x", "STORAGE_URL=file://host/x: expected file:///path, or the path alone."),
        *[
            ("DATABASE_URL", url, DATABASE_REFUSAL)
            for url in ("mysql://u:secret@h/n", "secret", "postgres://u:secret/x@h/n")
        ],
    ],
)
def test_an_error_says_what_is_expected(read: Read, name: str, text: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(**{name: text})
    assert str(refusal.value) == said
    assert "secret" not in said


def test_a_command_names_all_wrong_variables(tmp_path: Path) -> None:
    wrong = {"DATABASE_URL": "mysql://u:secret@h/n", "MAX_BATCH_RECORDS": "many", "PORT": "http", "DEBUG": "2"}
    environment = {**os.environ, "DATA_DIR": str(tmp_path), **wrong}
    command = [sys.executable, "manage.py", "up"]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        DATABASE_REFUSAL,
        "DEBUG=2: expected true or false.",
        "PORT=http: expected a whole number, at least 1.",
        "MAX_BATCH_RECORDS=many: expected a whole number, at least 1.",
    ]


@pytest.mark.parametrize("text", ["{0}/tables", "file://{0}/tables", "file://{0}/%74ables"])
def test_one_directory_may_be_written_as_path_or_url(read: Read, tmp_path: Path, text: str) -> None:
    url = read(STORAGE_URL=text.format(tmp_path))["STORAGE_URL"]
    assert url == str(tmp_path / "tables")
    assert storage_is_directory(url)


def test_an_object_store_is_not_a_directory(read: Read) -> None:
    assert not storage_is_directory(read(STORAGE_URL="s3://bucket/prefix")["STORAGE_URL"])


def test_a_database_url_is_postgresql_or_sqlite(read: Read) -> None:
    postgres = read(DATABASE_URL="postgres://u:p@h:5433/n?sslmode=require")["DATABASES"]["default"]
    assert postgres["ENGINE"] == "django.db.backends.postgresql"
    assert [postgres[name] for name in ("USER", "HOST", "PORT", "NAME")] == ["u", "h", 5433, "n"]
    assert postgres["OPTIONS"] == {"sslmode": "require"}
    sqlite = read(DATABASE_URL="sqlite:////srv/ingest/db.sqlite3")["DATABASES"]["default"]
    assert (sqlite["NAME"], sqlite["OPTIONS"]["transaction_mode"]) == ("/srv/ingest/db.sqlite3", "IMMEDIATE")
    assert "journal_mode=WAL" in sqlite["OPTIONS"]["init_command"]


def test_texts_lists_and_switches_are_read_as_written() -> None:
    found = read_environment({"SECRET_KEY": " $HOME #x", "ALLOWED_HOSTS": " a , ,b,", "DEBUG": "YES", "HTTPS": "Off"})
    assert (found.SECRET_KEY, found.ALLOWED_HOSTS) == (" $HOME #x", ["a", "b"])
    assert (found.DEBUG, found.HTTPS) == (True, False)


# -- files of the embedded default ---------------------------------------------------------------------

RACE = """
import multiprocessing, sys
from pathlib import Path
from config.common.env import embedded_secret

def read(barrier, results, directory):
    barrier.wait()
    results.put(embedded_secret(directory))

fork = multiprocessing.get_context("fork")
for attempt in range(20):
    barrier, results = fork.Barrier(8), fork.Queue()
    directory = Path(sys.argv[1]) / str(attempt)
    processes = [fork.Process(target=read, args=(barrier, results, directory)) for _ in range(8)]
    [process.start() for process in processes]
    secrets = {results.get(timeout=30) for _ in processes}
    [process.join() for process in processes]
    kept = [path.name for path in directory.iterdir()]
    assert len(secrets) == 1 and kept == ["secret_key"], (secrets, kept)
"""


def test_processes_that_start_together_make_one_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    done = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*/secret_key")} == {0o600}


def test_the_redis_socket_is_elsewhere_if_a_url_cannot_hold_it(tmp_path: Path) -> None:
    assert embedded_redis_socket(Path("/srv/data")) == Path("/srv/data/redis/redis.sock")
    others = [Path("/srv") / name for name in ("x" * 90, "100%41", "a?b", "a#b", "a b", "é")]
    sockets = [embedded_redis_socket(directory) for directory in others]
    assert len(set(sockets)) == len(others)
    for socket in sockets:
        assert re.fullmatch(rf"/tmp/dataset-ingest-{os.geteuid()}/[0-9a-f]{{16}}\.sock", str(socket))


def test_the_memory_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("config.common.env._MEMORY_LIMITS", (limit,))
    whole = machine_memory()
    assert whole > 2**28
    limit.write_text("max\n")
    assert machine_memory() == whole
    limit.write_text("268435456\n")
    assert machine_memory() == 2**28
