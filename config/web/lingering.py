"""Read and discard the rest of a refused body, so that its sender gets the answer (RFC 9112, 9.6).

If a server closes a connection while the client is still sending, the connection is reset, and most clients report a
broken connection instead of the answer. Most of a small body has usually arrived already. So we read it before we
answer, and the connection stays open. We answer a large body immediately. The server then closes its socket, but we
hold a duplicate of it. From the duplicate we read and discard the rest, within limits of time and bytes.
"""

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from config.common.connections import TRY_AGAIN_SECONDS, connection_of

_MAX_SECONDS = 10.0
_MAX_SECONDS_OF_A_PROJECT = 60.0  # a client on a slow line, or behind a busy proxy, needs more than 10 seconds
_MAX_SILENT_SECONDS = 10.0
_SMALL_BYTES = 64 * 1024
_SMALL_SECONDS = 0.2
_TRIES = 4
_PIECE_BYTES = 64 * 1024
# Each duplicate is an open file in addition to the server's connections. Beyond this limit, clients may miss an answer.
_MAX_CONNECTIONS = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
_discarding: set[asyncio.Task[None]] = set()


async def was_discarded(receive: Receive, announced: str) -> bool:
    """Read and discard a small body. Return False if it is large, its length is unknown, or it does not come soon."""
    if not announced.isdecimal() or int(announced) > _SMALL_BYTES:
        return False
    left = int(announced)
    try:
        async with asyncio.timeout(_SMALL_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return False
    return left <= 0


async def keep_open(scope: Mapping[str, Any], *, sender: int | None) -> None:
    """Keep a client's connection open when the server closes it, and discard what comes.

    `sender` is the ID of a project, or None if the request had no valid key. Discard up to MAX_BODY_BYTES without a
    valid key, and four times as much for a project. A project also has more time.
    """
    if len(_discarding) >= _MAX_CONNECTIONS:
        return
    address, port = scope.get("client") or ("", 0)
    peer = (address, int(port))
    for _ in range(_TRIES):
        if (connection := connection_of(peer)) is not None:
            break
        await asyncio.sleep(TRY_AGAIN_SECONDS)
    else:
        return
    limit: int = settings.MAX_BODY_BYTES * (1 if sender is None else 4)
    seconds = _MAX_SECONDS if sender is None else _MAX_SECONDS_OF_A_PROJECT
    task = asyncio.get_running_loop().create_task(_discard(connection, limit, seconds))
    _discarding.add(task)  # keep the task: the loop has only a weak reference to it
    task.add_done_callback(_discarding.discard)


async def _discard(connection: socket.socket, limit: int, seconds: float) -> None:
    """Discard what comes until the client closes its side or is silent, or the limit of bytes or time is exceeded."""
    loop = asyncio.get_running_loop()
    with connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(seconds), asyncio.timeout(_MAX_SILENT_SECONDS) as silence:
                while limit > 0 and (piece := await loop.sock_recv(connection, _PIECE_BYTES)):
                    limit -= len(piece)
                    silence.reschedule(loop.time() + _MAX_SILENT_SECONDS)
        except (TimeoutError, OSError):
            pass
