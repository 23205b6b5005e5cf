"""The WSGI application as granian serves it: its process does not outlive the server's main process.

A main process that was killed cannot stop its workers; they would answer requests, and hold the port, for ever.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

from config.wsgi import application

__all__ = ["application"]


def _end_without(main: BaseProcess) -> None:
    main.join()
    os.kill(os.getpid(), signal.SIGTERM)


_main = multiprocessing.parent_process()
if _main is not None:
    threading.Thread(target=_end_without, args=(_main,), daemon=True).start()
