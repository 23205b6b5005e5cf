"""Keep the data directory private: only the user that runs the service may read it.

The directory holds session keys, password hashes, the secret that signs API keys, and every record.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# The umask of the processes that `up` starts: only the owner can use new files.
UMASK = 0o077

# Names of what the service keeps in its data directory. `tables` may be elsewhere.
_OURS = (
    "db.sqlite3*",
    "secret_key*",
    "demo-admin-password",
    "redis",
    "cluster",
    "logs",
    "static",
    "queries",
    "supervisor",
    "tables",
    "up.lock",
)
# Each of these names shows that the directory is ours.
_CERTAINLY_OURS = ("db.sqlite3", "secret_key")


def private_directory(directory: Path) -> None:
    """Make the data directory. If it exists, remove the rights of other users to it.

    If the directory is not only for the service (/tmp, /srv), keep its rights. Our files in it are still private.
    """
    with usable(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_dedicated(directory) and os.geteuid() in (0, directory.stat().st_uid):
            _close(directory)
        _require_access(directory)


def make_private(directory: Path) -> None:
    """Remove the rights of other users to our files in the data directory.

    Earlier releases left some files readable.
    """
    with usable(directory):
        for pattern in _OURS:
            for path in directory.glob(pattern):
                for each in _tree(path):
                    _close(each)
                    _require_access(each)


def private_temporary_directory(owner: int) -> Path:
    """Return a directory below /tmp that only this user can use, and make it if it is missing.

    Its name is predictable, so another user could make it first, and then read what we send to a socket in it.

    Args:
        owner: User ID of the data directory's owner. Commands that root runs use the same directory as the service.

    Raises:
        ImproperlyConfigured: Another user owns the directory or can enter it.
    """
    path = Path(tempfile.gettempdir()) / f"dataset-ingest-{owner}"
    if os.geteuid() in (0, owner):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            os.chown(path, owner, -1)
    found = path.lstat() if os.path.lexists(path) else None
    if found is None or not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & UMASK:
        raise ImproperlyConfigured(
            f"{path} must be a directory that only user {owner} can use. Remove it, or choose a DATA_DIR with a "
            "shorter and plainer path, which needs no directory in /tmp."
        )
    return path


@contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Turn an OSError into an ImproperlyConfigured that says what to do about the data directory."""
    try:
        yield
    except OSError as failure:
        raise ImproperlyConfigured(
            f"DATA_DIR={directory} cannot be used ({failure.strerror}: {failure.filename}). "
            "Give it to the user that runs this (`chown -R`), or set DATA_DIR to another directory."
        ) from failure


def _require_access(path: Path) -> None:
    needed = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    if path.exists() and not os.access(path, needed):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _is_dedicated(directory: Path) -> bool:
    """Return whether the directory is only for the service: it holds our database or secret, or only our files.

    A directory with the sticky bit, such as /tmp, never counts as ours.
    """
    if directory.stat().st_mode & stat.S_ISVTX:
        return False
    names = {path.name for path in directory.iterdir()}
    return not names.isdisjoint(_CERTAINLY_OURS) or all(any(map(Path(name).match, _OURS)) for name in names)


def _tree(path: Path) -> Iterator[Path]:
    """Yield a file, or a directory and everything below it. Symbolic links are neither yielded nor followed."""
    if path.is_symlink():
        return
    yield path
    for parent, directories, files in os.walk(path):
        yield from (each for name in (*directories, *files) if not (each := Path(parent, name)).is_symlink())


def _close(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & UMASK:
            path.chmod(mode & ~UMASK)
    except FileNotFoundError:
        return  # a temporary file that another process has just deleted
