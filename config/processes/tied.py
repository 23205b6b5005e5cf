"""Run a command that ends when its parent does: `python -m config.processes.tied COMMAND ARGUMENT…`.

Nothing that `up` started may outlive it, even if `up` or its supervisor is killed: on Linux the kernel then sends
SIGTERM. Other systems have no such signal; there the command just runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be watched
            sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
