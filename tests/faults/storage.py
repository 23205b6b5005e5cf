"""Storage that fails, in ways that stop even root."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)


def exchange_with_a_file(path: Path) -> Callable[[], None] | None:
    """Put a file where a directory is, in one step; what undoes it. None if there is no directory."""
    hidden = path.with_name(f".away-{path.name}")
    if hidden.exists() or not path.is_dir():
        return None
    hidden.touch()  # empty: the disk may be full
    _exchange(path, hidden)

    def restore() -> None:
        _exchange(path, hidden)
        hidden.unlink()

    return restore


def _exchange(one: Path, other: Path) -> None:
    if _libc.renameat2(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


class Disk:
    """A file system of its own for the tables, which can be filled up."""

    size = 512 * 1024**2

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / ".ballast"

    @classmethod
    def mounted(cls, path: Path) -> "Disk | None":
        """A disk at an empty directory; None where we may not mount one."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={cls.size}", "faults", str(path)]
        return cls(path) if subprocess.run(command, capture_output=True).returncode == 0 else None

    def fill(self) -> None:
        """Take all the room that is left."""
        with self.ballast.open("ab") as ballast:
            while room := os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.tell(), room)
                except OSError:
                    return  # somebody else took a part of it
                ballast.seek(0, os.SEEK_END)

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True, capture_output=True)
