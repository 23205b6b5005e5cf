"""Limit how many queries run together: each query holds a permit of its project, and a permit for a processor.

A permit is a locked file in DATA_DIR/queries. So the limits hold for all web processes of a machine together. When the
process that holds a file ends, even if it is killed, the kernel unlocks the file. So no permit is lost.
"""

import fcntl
import os
import weakref
from pathlib import Path

from django.conf import settings


def processors() -> set[int]:
    """Return the processors that queries may use: all except one, which stays free for ingest, or the only one.

    The kernel pauses a query if another process needs the processor. It does not pause the query if one of the kernel's
    own threads needs the processor, and these threads write to the disk. So without a free processor, each write would
    wait for queries. A system without processor affinity cannot choose the processors of a query. There, only the
    number of these processors has an effect: it limits how many queries run at the same time.
    """
    known = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return set(known[1:] or known)


class Permit:
    """The right to run one query. It is held until `release`."""

    def __init__(self, descriptor: int) -> None:
        # If nothing has called `release` when Python deletes the object, the finalizer releases the permit.
        self.release = weakref.finalize(self, os.close, descriptor)


def folder() -> Path:
    """Return the directory of the permits."""
    path: Path = settings.DATA_DIR / "queries"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def take(name: str, count: int) -> Permit | None:
    """Return one of the `count` permits with this name, or None if all are taken."""
    directory = folder()
    for number in range(count):
        descriptor = os.open(directory / f"{name}.{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return Permit(descriptor)
    return None
