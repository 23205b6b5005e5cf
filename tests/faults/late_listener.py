"""A web process like those of granian. Its main process is killed while the web process starts.

`python -m tests.faults.late_listener` prints the PID of the web process. As on a busy machine, the web process begins
to handle SIGTERM only a second after it has loaded the application.
"""

import importlib
import multiprocessing
import os
import signal
import threading
import time


def _serve(main: int) -> None:
    while os.getppid() == main:
        time.sleep(0.01)
    importlib.import_module("config.web.granian")
    time.sleep(1)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    told.wait()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)  # as granian's main process does; forked processes inherit it
    process = multiprocessing.get_context("fork").Process(target=_serve, args=[os.getpid()])
    process.start()
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
