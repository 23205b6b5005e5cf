"""The WSGI application as granian serves it: its process does not outlive the server's main process.

A main process that was killed cannot stop its workers; they would answer requests, and hold the port, for ever.
"""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.process import BaseProcess

from config.wsgi import application

__all__ = ["application"]

_PATIENCE_SECONDS = 20  # for requests that are still being answered


def _end_without(main: BaseProcess) -> None:
    main.join()
    # Again and again: until the server listens for it, the signal goes to a handler that was the main process's, and
    # is lost. A process whose main died while it was starting would stay; and, by the pipes it inherited, its siblings.
    for _ in range(_PATIENCE_SECONDS):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


_main = multiprocessing.parent_process()
if _main is not None:
    threading.Thread(target=_end_without, args=(_main,), daemon=True).start()
