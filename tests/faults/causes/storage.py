"""Make storage fail in ways that stop even root."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.processes.stack import wait_for

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(path: Path, *, mount_point: bool) -> Callable[[], None] | None:
    """Replace a directory with a file, or with an empty directory (as if a disk were not mounted), in one step.

    Return a function that undoes this and deletes what was written meanwhile, or None if there is no directory.
    """
    hidden = path.with_name(f".away-{path.name}")
    if hidden.exists() or not path.is_dir():
        return None
    if mount_point:
        hidden.mkdir()
    else:
        hidden.touch()  # empty: the disk may be full
    _exchange(path, hidden)

    def restore() -> None:
        _exchange(path, hidden)
        if mount_point:
            wait_for(lambda: _gone(hidden), "the end of a mount point")  # a process may be writing there
        else:
            hidden.unlink()

    return restore


def _gone(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _exchange(one: Path, other: Path) -> None:
    if _libc.renameat2(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


class Disk:
    """A separate file system for the tables, which can be filled up."""

    size = 512 * 1024**2

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / ".ballast"

    @classmethod
    def mounted(cls, path: Path) -> "Disk | None":
        """Mount a disk at an empty directory. Return None if we may not mount."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={cls.size}", "faults", str(path)]
        return cls(path) if subprocess.run(command, capture_output=True).returncode == 0 else None

    def fill(self) -> None:
        """Use up all free space."""
        with self.ballast.open("ab") as ballast:
            while room := os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.tell(), room)
                except OSError:
                    return  # another process has used a part of the space
                ballast.seek(0, os.SEEK_END)

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True, capture_output=True)
