"""The sockets of this process's clients. ASGI names a client by its address, and has no way to its connection."""

import contextlib
import ctypes
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import ClassVar

Peer = tuple[str, int]  # address and port
# Looking through thousands of sockets takes milliseconds: at most a tenth of the time is spent on it.
_PAUSE_FACTOR = 10
_TRIES = 10
TRY_AGAIN_SECONDS = 0.05


def sockets() -> Iterator[tuple[int, socket.socket]]:
    """Yield this process's TCP sockets by their number, each open until the next one."""
    for number in map(int, os.listdir("/dev/fd")):
        with contextlib.suppress(OSError):
            # Duplicate only sockets: nothing would close the duplicate of anything else.
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as found:
                    if found.family != socket.AF_UNIX:
                        yield number, found


class _Seen:
    """Which socket each client had when we looked last, and when we may look again."""

    look_at = 0.0
    numbers: ClassVar[dict[Peer, int]] = {}


def connection_of(peer: Peer) -> socket.socket | None:
    """Return a duplicate of the socket of a client's connection.

    None if it is gone, or if it was not found and it is too early to look again.
    """
    found = _duplicate(_Seen.numbers.get(peer), peer)
    began = time.monotonic()
    if found is None and began >= _Seen.look_at:
        _Seen.numbers = _look()
        now = time.monotonic()
        _Seen.look_at = now + _PAUSE_FACTOR * (now - began)
        found = _duplicate(_Seen.numbers.get(peer), peer)
    return found


def reset(peer: Peer) -> None:
    """Reset a client's connection, so that the client does not take a part of the answer for all of it. For threads."""
    for _ in range(_TRIES):
        connection = connection_of(peer)
        if connection is not None:
            with connection:
                # `connect` to no address resets it. An HTTP/1.0 client takes a normal close for the end of the answer.
                ctypes.CDLL(None).connect(connection.fileno(), bytes(16), 16)
            return
        time.sleep(TRY_AGAIN_SECONDS)


def _look() -> dict[Peer, int]:
    found = {}
    for number, each in sockets():
        with contextlib.suppress(OSError):
            found[_peer(each)] = number
    return found


def _duplicate(number: int | None, peer: Peer) -> socket.socket | None:
    if number is None:
        return None
    try:
        found = socket.socket(fileno=os.dup(number))
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if _peer(found) == peer:
            return found
    found.close()
    return None


def _peer(connection: socket.socket) -> Peer:
    address, port = connection.getpeername()[:2]
    return address, port
