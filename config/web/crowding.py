"""Keep room for new connections when clients hold nearly as many as a process may have.

Any client can open connections and use them slowly or not at all: it sends half of a head, a very slow body, or
nothing. If a process is crowded, it ends the connections over which it has sent nothing for the longest time. Clients
that get answers keep their connections.
"""

import contextlib
import os
import resource
import socket
import struct
import sys
import time
from typing import ClassVar

from config.common.connections import Peer, duplicate, max_connections, peer_of, sockets

# The process is crowded if its open files reach this share of max_connections. It then ends at most _ENDED_SHARE of
# max_connections.
_CROWDED_SHARE = 0.875
_ENDED_SHARE = 0.5
# Do not end a connection that was accepted or answered less than this time ago.
_MIN_SECONDS = 2.0
# Linux's `struct tcp_info` begins with the state. `tcpi_last_data_sent` is the tenth number after eight bytes.
_TCP_INFO = struct.Struct("=B43xI")
_ESTABLISHED = 1

Client = tuple[int, Peer]  # the socket's number, and the client's address


class _Seen:
    """The time when a crowded process first saw each client.

    If nothing was sent to a client yet, the kernel counts from the handshake, which may be long before the client was
    accepted.
    """

    at: ClassVar[dict[Client, float]] = {}


def make_room() -> int:
    """End some connections of clients if the process is crowded. Return how many.

    Do nothing on other systems than Linux, because they do not tell which connections are silent.
    """
    limit = max_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if not sys.platform.startswith("linux") or len(os.listdir("/dev/fd")) < limit * _CROWDED_SHARE:
        _Seen.at.clear()
        return 0
    now, silent = time.monotonic(), _silent_seconds()
    _Seen.at = {client: _Seen.at.get(client, now) for client in silent}
    old = [client for client, seconds in silent.items() if min(seconds, now - _Seen.at[client]) >= _MIN_SECONDS]
    ended = 0
    for number, peer in sorted(old, key=silent.__getitem__, reverse=True)[: int(limit * _ENDED_SHARE)]:
        if (connection := duplicate(number, peer)) is not None:
            with connection, contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                ended += 1
    return ended


def _silent_seconds() -> dict[Client, float]:
    """Return, for each client's connection, the seconds since we sent something over it, or since it was opened."""
    ports = {_port(each) for _, each in sockets() if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)}
    found = {}
    for number, each in sockets():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, ms = _TCP_INFO.unpack(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
            if state == _ESTABLISHED and _port(each) in ports:
                found[number, peer_of(each)] = ms / 1000
    return found


def _port(connection: socket.socket) -> int:
    port: int = connection.getsockname()[1]
    return port
