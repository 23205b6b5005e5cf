"""Helpers of the settings: the syntax of variables, the broker's address, and files that the service makes itself."""

import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from config.common.private import private_temporary_directory

BASE_DIR = Path(__file__).resolve().parents[2]
# The tag of the system checks that every command of ours runs.
SETTINGS_CHECKS = "settings"

# Where Linux's control groups (version 2, version 1) state how much memory a container may use.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# delta-rs reads a path as a URL. It refuses these characters, or reads them as something else.
_NOT_IN_A_TABLES_PATH = re.compile(r"[\[\]^|\\\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}")
# The address of a unix socket holds 107 bytes on Linux (sun_path). Our limit leaves some room.
_MAX_SOCKET_PATH = 100


def machine_memory() -> int:
    """Return the bytes of memory that this machine has, or that this container may use."""
    memory: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _MEMORY_LIMITS:
        text = path.read_text().strip() if path.exists() else ""
        if text.isdecimal():
            memory = min(memory, int(text))
    return memory


# -- the syntax of variables. The messages of the errors contain no secret


def data_directory(text: str) -> Path:
    """Return the absolute path of the data directory. Raises ImproperlyConfigured."""
    path = Path(text).expanduser().resolve()
    if not str(path).isprintable():  # a path that Python could not decode is not printable, either
        raise ImproperlyConfigured(
            f"DATA_DIR={ascii(str(path))[1:-1]} has characters that cannot be read here. Set LC_ALL=C.UTF-8, or "
            "choose another DATA_DIR."
        )
    return path


def database(url: str) -> dict[str, Any]:
    """Return Django's configuration for the URL of a database.

    Raises ImproperlyConfigured. The message does not contain the URL.
    """
    try:
        if urlsplit(url).scheme not in ("postgres", "postgresql", "sqlite"):
            raise ValueError
        configuration = dict(environ.Env.db_url_config(url))
    except ValueError:
        raise ImproperlyConfigured(
            "DATABASE_URL: expected postgres://user:password@host:port/name or sqlite:////path. In a password, write "
            "special characters as %XX."
        ) from None
    # The directory of a socket is written as %2Frun%2Fpostgresql in a URL.
    return {**configuration, "HOST": unquote(configuration.get("HOST") or "")}


def storage_location(text: str) -> str:
    """Return the absolute path if the storage is a directory, else the unchanged URL. Raises ImproperlyConfigured."""
    if text.startswith("file://"):
        text = unquote(text.removeprefix("file://"))
        if not text.startswith("/"):
            raise ImproperlyConfigured(f"STORAGE_URL=file://{text}: expected file:///path, or the path alone.")
    if not storage_is_directory(text):
        return text
    path = str(Path(text).expanduser().resolve())
    if _NOT_IN_A_TABLES_PATH.search(path):
        raise ImproperlyConfigured(
            f"Tables cannot be in {path!r}: the path has [ ] ^ | \\, a control character, or % before two hexadecimal "
            "digits. Choose another DATA_DIR, or another STORAGE_URL."
        )
    return path


def storage_is_directory(url: str) -> bool:
    """Return whether this STORAGE_URL is a directory, and not an object store. `url` is the value in the settings."""
    return "://" not in url


# -- the address of Celery's broker


def broker(redis_url: str) -> str:
    """Return the URL of a Redis in Celery's syntax, which differs for a unix socket.

    Raises ImproperlyConfigured for a cluster, which cannot be Celery's broker.
    """
    url = urlsplit(redis_url)
    if url.scheme.endswith("+cluster"):
        raise ImproperlyConfigured(
            "REDIS_URL names a cluster, which cannot be Celery's broker. Set CELERY_BROKER_URL to a single Redis, to a "
            "Redis behind Sentinel, or to RabbitMQ."
        )
    if url.scheme != "unix":
        return redis_url
    user, _, _ = url.netloc.rpartition("@")
    number = parse_qs(url.query).get("db", ["0"])[0]
    return f"redis+socket://{user and user + '@'}{url.path}?virtual_host={number}"


def broker_tls(broker_url: str) -> dict[str, Any] | None:
    """Return options that make Celery verify the broker's certificate, as redis-py does. Return None without TLS."""
    url = urlsplit(broker_url)
    if url.scheme != "rediss":
        return None
    options = {name: values[0] for name, values in parse_qs(url.query).items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **options}


# -- files that the service makes itself if a variable is not set


def embedded_secret(directory: Path) -> str:
    """Return the secret for an installation without SECRET_KEY. The first process saves it in the directory.

    If several processes start at the same time, one of them links its complete file, and the others read that file.
    """
    path = directory / "secret_key"
    directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = directory / f"secret_key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(64))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def embedded_cluster(directory: Path) -> str | None:
    """Return the URL of the cluster that `up --cluster` has made in the directory, or None if there is no cluster."""
    path = directory / "cluster" / "url"
    return path.read_text().strip() if path.exists() else None


def embedded_redis_socket(directory: Path) -> Path:
    """Return the path of the embedded Redis's socket: in the data directory, or below /tmp if that path does not work.

    It does not work if it is too long for a socket, or if it has characters that a URL must escape.
    """
    path = directory / "redis" / "redis.sock"
    if len(str(path)) <= _MAX_SOCKET_PATH and quote(str(path)) == str(path):
        return path
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    owner = directory.stat().st_uid if directory.exists() else os.geteuid()
    return private_temporary_directory(owner) / f"{digest}.sock"
