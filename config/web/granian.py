"""The ASGI application as granian serves it, and what else each web process does.

- It compares cached contracts with the database, before they are too old to use.
- It keeps room for new connections.
- It ends when granian's main process is gone. A main process that was killed cannot stop its workers, and they would
  hold the port forever.
- It sets options of the listening socket, so that the kernel notices lost clients.
- It tunes Python's garbage collector and the switch between threads.
"""

import gc
import logging
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
from config.web.crowding import make_room
from datasets.contracts.confirming import keep_confirmed

__all__ = ["application"]

logger = logging.getLogger(__name__)

_USER_TIMEOUT = [socket.TCP_USER_TIMEOUT] if hasattr(socket, "TCP_USER_TIMEOUT") else []
# The kernel asks a silent client after 60 seconds, and then twice more, 10 seconds apart.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 0)), 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    # On Linux, a client loses its connection if it reads nothing of a waiting answer for this number of milliseconds.
    *((socket.IPPROTO_TCP, option, int(settings.SEND_TIMEOUT_SECONDS * 1000)) for option in _USER_TIMEOUT),
)


def _end() -> None:
    # Use a timer of the kernel: granian's shutdown waits for requests, and no Python thread runs meanwhile.
    signal.alarm(settings.WEB_STOP_SECONDS)
    # Repeat the signal: a process that is still starting has the main process's handler, which ignores the signal.
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


def _notice_lost_clients() -> bool:
    """Make the kernel end connections of clients that vanished or do not read. Return False if it is too early.

    The kernel asks clients that are silent for a minute whether they are still there. Connections inherit these options
    from the listening socket. granian has no setting for these options. It opens the listening socket after it has
    imported this module, so the socket may not exist yet.
    """
    found = False
    for _, listener in sockets():
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found = True
            for level, option, value in _KEEPALIVE:
                listener.setsockopt(level, option, value)
    return found


def _make_room() -> None:
    try:
        if ended := make_room():
            logger.warning("too many connections: ended %d that were silent for the longest time", ended)
    except OSError:  # a connection has ended at this moment: try again later
        logger.debug("no room was made", exc_info=True)


def _attend(main: int) -> None:
    noticed = False
    while os.getppid() == main:  # a pipe would stay open, because the other web processes inherit it
        noticed = noticed or _notice_lost_clients()
        _make_room()
        time.sleep(1 if noticed else 0.1)
    _end()


# The objects of imported modules stay, so the garbage collector need not look at them. Requests make few cycles of
# references, so it runs less often than by default.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)

# granian's threads pass bodies to the event loop. By default, each thread waits up to 5 ms for a busy interpreter.
sys.setswitchinterval(0.0005)

_main = multiprocessing.parent_process()
if _main is not None and _main.pid is not None:
    threading.Thread(target=_attend, args=(_main.pid,), daemon=True).start()
    threading.Thread(target=keep_confirmed, daemon=True).start()
