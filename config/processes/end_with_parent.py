"""Run a command that ends when its parent does: `python -m config.processes.end_with_parent COMMAND ARGUMENT…`.

No process that `up` starts may outlive it, even if `up` or its supervisor is killed. On Linux the kernel sends SIGTERM
when the parent dies. Other systems have no such signal; there the command just runs.
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
        if os.getppid() != parent:  # the parent died before the call of prctl
            sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
