"""A process that runs queries: `python -m datasets.queries.processes.worker SOCKET`.

SOCKET is the file descriptor of the connection to the web process, which sends one job after the other.
"""

import logging
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from config.lazy import import_for_queries
from datasets.queries.processes import permits, running
from datasets.queries.processes.messages import READY, receive_job, send_outcome


def serve(connection: socket.socket) -> None:
    """Run jobs until the web process has ended."""
    import_for_queries()
    yield_to_others()  # after the imports: on a busy server, they would take too long with this priority
    connection.sendall(READY)
    while received := receive_job(connection):
        job, file = received
        with file:
            send_outcome(connection, running.run(job, file))


def yield_to_others() -> None:
    """Give this process the lowest priority, and let the kernel kill it first if memory runs out."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(0, permits.processors())
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    logging.basicConfig(format="{asctime} {levelname} {name} {message}", style="{")
    serve(socket.socket(fileno=int(sys.argv[1])))
