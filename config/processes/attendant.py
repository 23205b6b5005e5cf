"""Wait for the supervisor in place of `manage.py up`: `python attendant.py SUPERVISOR LOCK ARGUMENT…`.

When everything runs, `up` replaces itself with this program. The process ID stays the same. This program takes 4 MB.
Django and the other imports of `up` take 100 MB, and this program does not need them. The supervisor remains a child of
this process, and ends with it.

SUPERVISOR: the supervisor's process ID. LOCK: the file descriptor of the data directory's lock. The arguments
are those of `up`, for people who read the list of processes.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import Any

# The signals that stop everything. `up` blocks them before it replaces itself, so that none is lost meanwhile.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def replace_this_process(supervisor: int, lock: int) -> None:
    """Become the attendant. Does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.set_inheritable(lock, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    arguments = [sys.executable, "-I", "-S", __file__, str(supervisor), str(lock), *sys.argv]
    os.execv(sys.executable, arguments)  # noqa: S606


def attend(supervisor: int, lock: int) -> int:
    """Pass signals on to the supervisor, and wait until it has ended. Return its exit code."""

    def stop(*_: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup makes a process ignore SIGHUP
            signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    _, status = os.waitpid(supervisor, 0)
    os.ftruncate(lock, 0)  # everything has ended as it should: see config.processes.startup.DirectoryLock
    return max(os.waitstatus_to_exitcode(status), 0)


if __name__ == "__main__":
    sys.exit(attend(int(sys.argv[1]), int(sys.argv[2])))
