"""Settings from the environment, and what the embedded default keeps in its data directory."""

import hashlib
import os
import secrets
import tempfile
from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

# A unix socket's address holds 107 bytes on Linux (sun_path); stay clear of it.
_LONGEST_SOCKET_PATH = 100


def data_dir() -> Path:
    """The directory of the embedded default: database, Redis data, tables, secret."""
    return Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).expanduser().resolve()


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
    """Where the embedded Redis listens: in the data directory, or, if that path is too long, in /tmp."""
    path = directory / "redis" / "redis.sock"
    if len(str(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dataset-ingest-{digest}.sock"
