"""A thread in each Celery process that writes the process's heartbeat, and ends the process if it stops working.

After an outage of the broker, Celery may stay connected, but never take a message again. A new process takes messages.
So the thread checks whether the process still takes or sends messages. It uses the monotonic clock, because corrections
of the time of day do not move that clock.
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
# Seconds for which an idle worker may leave messages untouched, and beat may send nothing, before the process ends
# itself. A healthy process needs far less, even if it reconnects.
WORKER_PATIENCE_SECONDS = 20.0
BEAT_PATIENCE_SECONDS = 120.0
# Seconds after which /readyz calls a process busy or silent. A drain ends within seconds, a compaction may take long.
_BUSY_SECONDS = {"worker": 60.0, "upkeep": 3600.0}
_SILENT_SECONDS = 20.0


class Progress:
    """The moment at which this process last took or sent a message, by the monotonic clock."""

    at = time.monotonic()

    @classmethod
    def note(cls, **_: Any) -> None:
        cls.at = time.monotonic()

    @classmethod
    def seconds_ago(cls) -> float:
        return time.monotonic() - cls.at


task_received.connect(Progress.note)


def watch_worker(processes: Mapping[str, str], messages: Callable[[str], int]) -> None:
    """Watch this worker, for as long as it runs.

    Args:
        processes: For each queue that this worker takes messages from, the name of the process: worker or upkeep.
        messages: Returns the number of messages that wait in a queue. It may raise the broker's errors.
    """
    waits_since: float | None = None
    while True:
        try:
            something_waits, answers = any(messages(queue) > 0 for queue in processes), True
        except (KombuError, RedisError, OSError):
            something_waits = answers = False
        for process in processes.values():
            _leave(process, _state_of_worker(process) if answers else "the broker does not answer")
        if state.active_requests or not something_waits:
            waits_since = None
        else:
            waits_since = waits_since or time.monotonic()
            if min(time.monotonic() - waits_since, Progress.seconds_ago()) > WORKER_PATIENCE_SECONDS:
                _end("does not take the messages that wait for it")
        time.sleep(LOOK_SECONDS)


def watch_beat(shortest_interval: float) -> None:
    """Watch this beat. It sends its most frequent trigger every `shortest_interval` seconds."""
    Progress.note()
    while True:
        silent = Progress.seconds_ago()
        is_silent = silent > max(_SILENT_SECONDS, 2 * shortest_interval)
        _leave("beat", f"has sent nothing for {silent:.0f} seconds" if is_silent else "ok")
        if silent > max(BEAT_PATIENCE_SECONDS, 4 * shortest_interval):
            _end("sends nothing")
        time.sleep(LOOK_SECONDS)


def _state_of_worker(process: str) -> str:
    """Return `ok`, or a text that says for how long this worker has run the same tasks."""
    busy = Progress.seconds_ago() if state.active_requests else 0.0
    return f"busy with the same tasks for {busy:.0f} seconds" if busy > _BUSY_SECONDS[process] else "ok"


def _leave(process: str, said: str) -> None:
    try:
        heartbeat.write(process, said)
    except (RedisError, OSError):
        return  # the old heartbeat expires; before that, /readyz reports the failure of Redis


def _end(why: str) -> None:
    """Kill this process. Its supervisor (`up`, systemd) starts another."""
    logger.error("this process %s, so it ends; its supervisor starts another", why)
    os.kill(os.getpid(), signal.SIGKILL)  # an orderly exit would wait for the threads that hang
