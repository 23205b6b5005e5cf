"""Run one of our Celery processes: `python -m config.processes.run_celery worker PROCESSES`, `… upkeep` or `… beat`.

It is `celery -A config worker` or `beat` with the options that this service needs. Celery's own command line would also
import the modules of its interactive commands. They take 9 MB in each process.
"""

import logging
import socket
import sys

from config.celery import DRAIN_QUEUE, UPKEEP_QUEUE, app


def run_worker(name: str, queue: str, processes: int) -> int:
    """Run a worker of one queue until it is stopped. Return its exit code.

    If `processes` is 1, this process runs the tasks itself. With Celery's pool, this process would only hand over tasks
    to a second process, and the two together would need twice the memory. If this process dies during a task, the
    supervisor starts another, as Celery would.
    """
    worker = app.Worker(
        hostname=f"{name}@{socket.gethostname()}",
        queues=[queue],
        pool="solo" if processes == 1 else "prefork",
        concurrency=processes,
        loglevel=logging.WARNING,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def run_beat() -> int:
    """Run beat until it is stopped. Return its exit code."""
    app.Beat(scheduler="config.celery:BoundedScheduler", loglevel="WARNING", quiet=True).run()
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", processes]:
            sys.exit(run_worker("worker", DRAIN_QUEUE, int(processes)))
        case ["upkeep"]:
            sys.exit(run_worker("upkeep", UPKEEP_QUEUE, 1))
        case ["beat"]:
            sys.exit(run_beat())
        case _:
            sys.exit(__doc__)
