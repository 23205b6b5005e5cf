"""The WSGI application as granian serves it: its process does not outlive the server's main process.

A main process that was killed cannot stop its workers; they would answer requests, and hold the port, for ever.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from multiprocessing.process import BaseProcess

from config.wsgi import application

__all__ = ["application"]

# Ask after 60 seconds of silence, and twice more, 10 seconds apart.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 0)), 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_PATIENCE_SECONDS = 20  # for requests that are still being answered


def _end_without(main: BaseProcess) -> None:
    main.join()
    # Again and again: until the server listens for it, the signal goes to a handler that was the main process's, and
    # is lost. A process whose main died while it was starting would stay; and, by the pipes it inherited, its siblings.
    for _ in range(_PATIENCE_SECONDS):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _notice_lost_clients() -> bool:
    """Have the kernel ask clients that are silent for a minute whether they are still there; False if it is too early.

    Else one that vanished (a cable, a battery) in the middle of its body would keep a thread for ever. Connections
    inherit these options from the socket that listens. granian opens that after it has loaded us, and has no setting.
    """
    found = False
    for number in os.listdir("/dev/fd"):
        try:
            listener = socket.socket(fileno=os.dup(int(number)))
        except OSError:  # no socket
            continue
        with listener:
            if listener.family != socket.AF_UNIX and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found = True
                for level, option, value in _KEEPALIVE:
                    listener.setsockopt(level, option, value)
    return found


def _attend(main: BaseProcess) -> None:
    while main.is_alive() and not _notice_lost_clients():
        time.sleep(0.1)
    _end_without(main)


_main = multiprocessing.parent_process()
if _main is not None:
    threading.Thread(target=_attend, args=(_main,), daemon=True).start()
