"""Settings from the environment, and what the embedded default keeps in its data directory."""

import hashlib
import math
import os
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parents[2]

_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Environment:
    """Values by variable, read strictly. An empty variable counts as one that is not set.

    Raises ImproperlyConfigured, which names the variable. (django-environ would take `flase` for false, and a secret
    that begins with `$` for the name of another variable.)
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables

    def is_set(self, name: str) -> bool:
        return bool(self.variables.get(name))

    def text(self, name: str, default: str, choices: Sequence[str] = ()) -> str:
        text = self.variables.get(name) or default
        if choices and text not in choices:
            raise ImproperlyConfigured(f"{name}={text}: it is one of {', '.join(choices)}.")
        return text

    def integer(self, name: str, default: int, least: int) -> int:
        text = self.variables.get(name)
        try:
            number = int(text) if text else default
        except ValueError:
            raise ImproperlyConfigured(f"{name}={text}: it is a whole number.") from None
        if number < least:
            raise ImproperlyConfigured(f"{name}={text}: the least is {least}.")
        return number

    def number(self, name: str, default: float, least: float) -> float:
        text = self.variables.get(name)
        try:
            number = float(text) if text else default
        except ValueError:
            raise ImproperlyConfigured(f"{name}={text}: it is a number.") from None
        if not math.isfinite(number) or number < least:
            raise ImproperlyConfigured(f"{name}={text}: the least is {least:g}.")
        return number

    def truth(self, name: str, default: bool) -> bool:
        text = self.variables.get(name)
        if not text:
            return default
        if text.lower() not in _TRUTHS:
            raise ImproperlyConfigured(f"{name}={text}: it is true or false.")
        return _TRUTHS[text.lower()]

    def texts(self, name: str, default: Sequence[str]) -> list[str]:
        text = self.variables.get(name)
        return [part.strip() for part in text.split(",") if part.strip()] if text else [*default]


env = Environment(os.environ)


def database(url: str) -> dict[str, Any]:
    """Django's configuration for the address of a database. Raises ImproperlyConfigured; it may hold a password."""
    scheme = urlsplit(url).scheme
    if scheme not in ("postgres", "postgresql", "sqlite"):
        raise ImproperlyConfigured(f"DATABASE_URL begins with “{scheme}:”: it is postgres://… or sqlite:///….")
    try:
        configuration = dict(environ.Env.db_url_config(url))
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {error}.") from None
    # The directory of a socket is written as %2Frun%2Fpostgresql in an address.
    return {**configuration, "HOST": unquote(configuration.get("HOST") or "")}


# Where Linux's control groups (version 2, version 1) say how much memory a container may use.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int:
    """Return the bytes of memory that this machine has, or that this container may use."""
    memory: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _MEMORY_LIMITS:
        text = path.read_text().strip() if path.exists() else ""
        if text.isdecimal():
            memory = min(memory, int(text))
    return memory


# Delta Lake's library takes a path for a URL, and refuses these characters or means others by them.
_NOT_IN_A_TABLES_PATH = re.compile(r"[\[\]^|\\\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}")


def storage_directory(text: str) -> str:
    """Return the absolute path of a storage that is a directory. Raises ImproperlyConfigured."""
    path = str(Path(text).expanduser().resolve())
    if _NOT_IN_A_TABLES_PATH.search(path):
        raise ImproperlyConfigured(
            f"Tables cannot be in {path!r}: the path has [ ] ^ | \\, a control character, or % before two hexadecimal "
            "digits. Choose another DATA_DIR, or another STORAGE_URL."
        )
    return path


def broker(redis_url: str) -> str:
    """Return Celery's address for a Redis: its library has other words for a unix socket."""
    url = urlsplit(redis_url)
    if url.scheme != "unix":
        return redis_url
    user, _, _ = url.netloc.rpartition("@")
    database = parse_qs(url.query).get("db", ["0"])[0]
    return f"redis+socket://{user and user + '@'}{url.path}?virtual_host={database}"


def broker_tls(broker_url: str) -> dict[str, Any] | None:
    """Return how Celery verifies a broker's certificate: as redis-py does, which it would otherwise not do."""
    url = urlsplit(broker_url)
    if url.scheme != "rediss":
        return None
    options = {name: values[0] for name, values in parse_qs(url.query).items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **options}


# A unix socket's address holds 107 bytes on Linux (sun_path); stay clear of it.
_MAX_SOCKET_PATH_LENGTH = 100


def data_dir() -> Path:
    """Return the directory of the embedded default: database, Redis data, tables, secret."""
    path = Path(env.text("DATA_DIR", default=str(BASE_DIR / "var"))).expanduser().resolve()
    if not str(path).isprintable():  # also what Python could not decode
        raise ImproperlyConfigured(
            f"DATA_DIR={ascii(str(path))[1:-1]} has characters that cannot be read here. Set LC_ALL=C.UTF-8, or choose "
            "another DATA_DIR."
        )
    return path


def embedded_secret(directory: Path) -> str:
    """The secret of an embedded installation, made on first use and kept beside its data.

    Created with O_EXCL, so that of several processes started at once one wins and the others read its secret.
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


def embedded_redis_socket(directory: Path) -> Path:
    """Where the embedded Redis listens: in the data directory, or in /tmp if that path cannot be a part of a URL."""
    path = directory / "redis" / "redis.sock"
    if len(str(path)) <= _MAX_SOCKET_PATH_LENGTH and quote(str(path)) == str(path):
        return path
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dataset-ingest-{digest}.sock"
