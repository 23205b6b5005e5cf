"""A thread in each Celery process: it leaves the process's sign of life, and ends a process that does no more work.

Celery may stay connected after an outage of the broker and take nothing, for ever; a new process does work. All is
judged by work done, and timed by the monotonic clock, which no correction of the time of day moves.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from celery.signals import task_received
from celery.worker import state
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from ingest.monitoring import heartbeat

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# How long an idle worker may leave messages untouched, and beat may send nothing, before the process ends itself. Both
# are far above what a healthy process needs, a reconnection included.
WORKER_PATIENCE_SECONDS = 20.0
BEAT_PATIENCE_SECONDS = 120.0
# After which a process is called busy or silent. A drain ends its turn within seconds, a compaction when it is done.
_BUSY_SECONDS = {"worker": 60.0, "upkeep": 3600.0}
_SILENT_SECONDS = 20.0


class Progress:
    """When this process last took or sent a message, by the monotonic clock."""

    at = time.monotonic()

    @classmethod
    def note(cls, **_: Any) -> None:
        cls.at = time.monotonic()

    @classmethod
    def seconds_ago(cls) -> float:
        return time.monotonic() - cls.at


task_received.connect(Progress.note)


def watch_worker(processes: Mapping[str, str], messages: Callable[[str], int]) -> None:
    """Watch this worker.

    Args:
        processes: for each queue that this worker takes from, which process it is: worker or upkeep.
        messages: returns how many messages wait in a queue; raises what the broker raises.
    """
    waits_since: float | None = None
    while True:
        try:
            something_waits, answers = any(messages(queue) > 0 for queue in processes), True
        except (KombuError, RedisError, OSError):
            something_waits = answers = False
        for process in processes.values():
            _leave(process, _state_of_worker(process) if answers else "the broker gives no answer")
        if state.active_requests or not something_waits:
            waits_since = None
        else:
            waits_since = waits_since or time.monotonic()
            if min(time.monotonic() - waits_since, Progress.seconds_ago()) > WORKER_PATIENCE_SECONDS:
                _end("takes nothing of what waits for it")
        time.sleep(LOOK_SECONDS)


def watch_beat(shortest_interval: float) -> None:
    """Watch this beat, whose most frequent trigger is sent once in `shortest_interval` seconds."""
    Progress.note()
    while True:
        silent = Progress.seconds_ago()
        is_silent = silent > max(_SILENT_SECONDS, 2 * shortest_interval)
        _leave("beat", f"has sent nothing for {silent:.0f} seconds" if is_silent else "ok")
        if silent > max(BEAT_PATIENCE_SECONDS, 4 * shortest_interval):
            _end("sends nothing")
        time.sleep(LOOK_SECONDS)


def _state_of_worker(process: str) -> str:
    """Return `ok`, or how long this worker has been at the same tasks: a next one is taken as soon as one is done."""
    busy = Progress.seconds_ago() if state.active_requests else 0.0
    return f"busy with the same tasks for {busy:.0f} seconds" if busy > _BUSY_SECONDS[process] else "ok"


def _leave(process: str, said: str) -> None:
    try:
        heartbeat.leave(process, said)
    except (RedisError, OSError):
        return  # the sign expires, and /readyz names Redis first


def _end(why: str) -> None:
    """End this process at once; the supervisor (`up`, systemd) starts another."""
    logger.error("this process %s, and ends; another will be started", why)
    os.kill(os.getpid(), signal.SIGKILL)  # nothing in it is waited for: that is what hangs
