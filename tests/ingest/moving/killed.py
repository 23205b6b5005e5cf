"""Move data to a cluster in processes that are killed, one after the other, until one of them completes the move.

    python tests/ingest/moving/killed.py OLD_URL STEP [END]

The first process dies before the first message that it sends to a server. The next process dies STEP messages later,
and so on. With END, the last process dies before this message, and the move is not completed.
"""

import os
import signal
import sys
from itertools import count
from typing import Any

import django

django.setup()

from redis.connection import AbstractConnection  # noqa: E402

from config.common import redis  # noqa: E402
from datasets.installation import COPIED, MOVE  # noqa: E402
from ingest.moving.move import client_of, move  # noqa: E402


def run(url: str, life: int) -> bool:
    """Move in a process of its own that dies after `life` messages. Return whether it completes the move."""
    child = os.fork()
    if not child:
        left = count(life, -1)
        send = AbstractConnection.send_packed_command

        def send_while_alive(self: Any, *args: Any, **kwargs: Any) -> None:
            if next(left) <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            send(self, *args, **kwargs)  # type: ignore[no-untyped-call]

        AbstractConnection.send_packed_command = send_while_alive  # type: ignore[method-assign]
        move(client_of(url), lambda _: None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0, f"the move failed with {status}"
    return status == 0


def is_copied() -> bool:
    """Return whether only the last part of the move is left."""
    found = redis.client().get(MOVE) or b""
    redis.client().disconnect_connection_pools()
    return bool(found.startswith(COPIED))


if __name__ == "__main__":
    old, step, *end = sys.argv[1:]
    killed = 0
    for life in range(0, int(*end) if end else sys.maxsize, int(step)):
        if run(old, life) or is_copied():
            break
        killed += 1
    if not end:
        last = next(life for life in count() if run(old, life))
        print(f"killed {killed} times while copying, and {last} times after that")
