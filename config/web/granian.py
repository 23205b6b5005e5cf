"""The ASGI application as granian serves it, in processes that do two things beside answering requests.

They keep the contract catalog confirmed. And they do not outlive the server's main process: one that was killed cannot
stop its workers; they would answer requests, and hold the port, forever.
"""

import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time

from django.conf import settings

from config.common.connections import sockets
from config.web.asgi import application
from datasets.contracts.confirming import keep_confirmed

__all__ = ["application"]

_USER_TIMEOUT = [socket.TCP_USER_TIMEOUT] if hasattr(socket, "TCP_USER_TIMEOUT") else []
# Ask after 60 seconds of silence, and twice more, 10 seconds apart.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 0)), 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    # Linux: the longest that a client may read nothing of an answer that waits for it, in milliseconds.
    *((socket.IPPROTO_TCP, option, int(settings.SEND_TIMEOUT_SECONDS * 1000)) for option in _USER_TIMEOUT),
)


def _end() -> None:
    # The kernel's own timer: an end in good order waits for requests under way, and while it waits, no thread of
    # Python's gets another turn, this one included.
    signal.alarm(settings.WEB_STOP_SECONDS)
    # Again and again: until the server listens for it, the signal goes to a handler that was the main process's, and
    # is lost. A process whose main died while it was starting would stay.
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


def _notice_lost_clients() -> bool:
    """Have the kernel end connections of clients that vanished or do not read; False if it is too early.

    The kernel asks clients that are silent for a minute whether they are still there. Without this, a client that
    vanished in the middle of its body would keep a thread forever. Connections inherit these options from the socket
    that listens. granian opens that after it has loaded us, and has no setting.
    """
    found = False
    for _, listener in sockets():
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found = True
            for level, option, value in _KEEPALIVE:
                listener.setsockopt(level, option, value)
    return found


def _attend(main: int) -> None:
    noticed = False
    while os.getppid() == main:  # by this, and not by a pipe from it: siblings hold the other end of that, too
        noticed = noticed or _notice_lost_clients()
        time.sleep(1 if noticed else 0.1)
    _end()


# What the imports have made stays for good, so the garbage collector need not look at it. And requests make few cycles:
# by default, a fifth of the processor time went into looking for them.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)

# The server's threads hand bodies over to the event loop. By default each waits up to 5 ms for a loop that is busy.
sys.setswitchinterval(0.0005)

_main = multiprocessing.parent_process()
if _main is not None and _main.pid is not None:
    threading.Thread(target=_attend, args=(_main.pid,), daemon=True).start()
    threading.Thread(target=keep_confirmed, daemon=True).start()
