"""Find the sockets of this process's clients. ASGI gives only the address of a client, not its socket."""

import contextlib
import ctypes
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import ClassVar

Peer = tuple[str, int]  # address and port
# A search through thousands of sockets takes milliseconds. After a search, wait 10 times as long as it took, so that
# searches take less than a tenth of the time.
_PAUSE_FACTOR = 10
_TRIES = 10
TRY_AGAIN_SECONDS = 0.05


def max_connections(files: int) -> int:
    """Return how many connections a process may have if it may open `files` files.

    The other files are for databases, Redis, logs, and refused clients whose bodies we still read.
    """
    return files * 3 // 4


def sockets() -> Iterator[tuple[int, socket.socket]]:
    """Yield the file number and a duplicate of each TCP socket of this process. Close each duplicate after its turn."""
    for number in map(int, os.listdir("/dev/fd")):
        with contextlib.suppress(OSError):
            # Duplicate only sockets: `socket.socket` refuses other files, and their duplicates would stay open.
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as found:
                    if found.family != socket.AF_UNIX:
                        yield number, found


class _Seen:
    """The socket that each client had at the last search, and when the next search may begin."""

    look_at = 0.0
    numbers: ClassVar[dict[Peer, int]] = {}


def connection_of(peer: Peer) -> socket.socket | None:
    """Return a duplicate of the socket of a client's connection.

    Return None if the connection is gone, or if we have not found it and may not search again yet.
    """
    found = duplicate(_Seen.numbers.get(peer), peer)
    began = time.monotonic()
    if found is None and began >= _Seen.look_at:
        _Seen.numbers = _look()
        now = time.monotonic()
        _Seen.look_at = now + _PAUSE_FACTOR * (now - began)
        found = duplicate(_Seen.numbers.get(peer), peer)
    return found


def reset(peer: Peer) -> None:
    """Reset a client's connection, so that the client does not believe that a partial answer is complete.

    Call it in a thread, because it sleeps.
    """
    for _ in range(_TRIES):
        connection = connection_of(peer)
        if connection is not None:
            with connection:
                # `connect` with 16 zero bytes (AF_UNSPEC) resets the connection. After a normal close, an HTTP/1.0
                # client would believe that its partial answer is complete.
                ctypes.CDLL(None).connect(connection.fileno(), bytes(16), 16)
            return
        time.sleep(TRY_AGAIN_SECONDS)


def _look() -> dict[Peer, int]:
    found = {}
    for number, each in sockets():
        with contextlib.suppress(OSError):
            found[peer_of(each)] = number
    return found


def duplicate(number: int | None, peer: Peer) -> socket.socket | None:
    """Return a duplicate of the socket with this number, or None if it is no longer this client's socket."""
    if number is None:
        return None
    try:
        found = socket.socket(fileno=os.dup(number))
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if peer_of(found) == peer:
            return found
    found.close()
    return None


def peer_of(connection: socket.socket) -> Peer:
    """Return the other end of a connection. Raises OSError if the connection has ended."""
    address, port = connection.getpeername()[:2]
    return address, port
