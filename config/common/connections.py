"""Break the connection of a streamed answer that cannot be completed.

granian ends an answer in good order when its iterator raises, so a client could not tell half a file from a whole one.
granian has no call to break a connection, and does not say by which socket a request came. We find the socket by what
goes out on it: the answer goes on with a mark of a random length, and the socket on which exactly that much was sent
is ours. (Linux; elsewhere the mark itself is all that tells.)
"""

import contextlib
import ctypes
import os
import secrets
import socket
import stat
import struct
import termios
import time
from collections.abc import Iterator, Mapping
from fcntl import ioctl
from typing import Any

_MARK = b"\nINCOMPLETE: the rest could not be read.\n"
_TRIES = 120
_WAIT_SECONDS = 0.5
_PAUSE_SECONDS = 0.01
_ACKNOWLEDGED_AT = 120  # where `struct tcp_info` has tcpi_bytes_acked


def broken_off(environ: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield marks as the rest of an answer until its connection is broken."""
    port = int(environ.get("SERVER_PORT", 0))
    for _ in range(_TRIES):
        mark = _MARK + b" " * secrets.randbelow(4000)
        before = {number: _sent(found) for number, found in _connections(port)}
        yield mark
        # What was yielded before may still wait for the client to read. Then the next try finds the socket.
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            for number, found in _connections(port):
                if number in before and _sent(found) - before[number] in _lengths(len(mark)):
                    _break(found)
                    return
            time.sleep(_PAUSE_SECONDS)


def _lengths(size: int) -> tuple[int, ...]:
    """Return how many bytes a part of an answer takes on the wire: in a chunk, or as it is."""
    return size + len(f"{size:x}\r\n\r\n"), size


def sockets() -> Iterator[tuple[int, socket.socket]]:
    """Yield this process's TCP sockets by their number, each open until the next one."""
    for number in map(int, os.listdir("/dev/fd")):
        with contextlib.suppress(OSError):
            # What is no socket must not be duplicated: nothing would close the duplicate.
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as found:
                    if found.family != socket.AF_UNIX:
                        yield number, found


def _connections(port: int) -> Iterator[tuple[int, socket.socket]]:
    """Yield this process's connections to its own port."""
    for number, found in sockets():
        with contextlib.suppress(OSError):
            if found.getsockname()[1] == port and found.getpeername():
                yield number, found


def _sent(connection: socket.socket) -> int:
    """Return how many bytes went out: those that the client has acknowledged, and those that wait in the kernel."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        (acknowledged,) = struct.unpack_from("Q", info, _ACKNOWLEDGED_AT)
        (waiting,) = struct.unpack("i", ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
        return int(acknowledged) + int(waiting)
    except (AttributeError, OSError, struct.error):
        return 0


def _break(connection: socket.socket) -> None:
    """Reset it, which `connect` to no address does: to HTTP/1.0, an end in good order means a complete answer."""
    ctypes.CDLL(None).connect(connection.fileno(), bytes(16), 16)
