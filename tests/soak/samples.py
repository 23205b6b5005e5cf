"""Take samples of a running stack. Names in a sample are `kind/series`. A kind has one chart and one tolerance."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis

from config.common.env import embedded_redis_socket
from ingest.queue import redis_keys
from tests.support.processes.roles import families
from tests.support.processes.stack import Stack, wait_for

WEB = 2
_CHILDREN = {"redis": 0, "web": WEB, "worker": 0, "upkeep": 0, "beat": 0}
_MB = 1e6
# Compaction leaves few files below this size, because it merges two of them into one.
_SMALL_BYTES = 50 * 1024 * 1024

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of series, and how much it may grow: by a share of its earlier value, or by `slack` if this is more."""

    title: str
    share: float = 0.0
    slack: float = 0.0
    judged: bool = True


KINDS = {
    "memory": Kind("Resident memory, MB", share=0.1, slack=10),
    "redis": Kind("Redis: memory used, MB", share=0.2, slack=16),
    "aof": Kind("Redis: append-only file, MB", share=0.2, slack=32),
    "files": Kind("Open files", share=0.05, slack=8),
    # The libraries' thread pools start dozens of threads when they need them, and end them again.
    "threads": Kind("Threads", share=0.5, slack=40),
    "table": Kind("Table: files that could be merged", share=0.2, slack=20),
    "log": Kind("Table: files of its log", share=0.2, slack=100),
    "queue": Kind("Queued records", share=0.5, slack=200_000),
    "answers": Kind("Slowest answer, s", share=1.0, slack=1.0),
    "records": Kind("Millions of records acknowledged", judged=False),
    "size": Kind("Table: MB", judged=False),
}


class Sampler:
    """Takes samples of a running stack from outside."""

    def __init__(self, stack: Stack, project: int, dataset: int) -> None:
        self._stack = stack
        self._processes = wait_for(lambda: processes(stack), "all processes")
        self._redis = Redis(unix_socket_path=str(embedded_redis_socket(stack.data_dir)))
        self._queued = redis_keys.queued(dataset)
        self._table = Path(stack.storage) / f"project_{project}" / f"dataset_{dataset}"

    def sample(self) -> Sample:
        """Take a sample. Raises psutil.NoSuchProcess if a process has ended."""
        found: Sample = {}
        for name, process in self._processes.items():
            with process.oneshot():
                found[f"memory/{name}"] = process.memory_info().rss / _MB
                found[f"files/{name}"] = process.num_fds()
                found[f"threads/{name}"] = process.num_threads()
        info = self._redis.info("everything")
        found["redis/used memory"] = info["used_memory"] / _MB
        found["aof/size"] = info["aof_current_size"] / _MB
        found["queue/records"] = int(self._redis.get(self._queued) or 0)
        data, log = _files(self._table), _files(self._table / "_delta_log")
        found["table/files"] = sum(1 for size in data if size < _SMALL_BYTES)
        found["log/files"] = len(log)
        found["size/data"], found["size/log"] = sum(data) / _MB, sum(log) / _MB
        return found

    def ended(self) -> list[str]:
        """Return the names of the processes that have ended since this sampler was made."""
        return [name for name, process in self._processes.items() if not process.is_running()]


def processes(stack: Stack) -> dict[str, psutil.Process] | None:
    """Return the processes of a stack by name. Children are `worker 1`, `worker 2` … Return None if one is missing."""
    assert stack.process is not None
    up = psutil.Process(stack.process.pid)
    found = {"up": up}
    running = families(stack)
    for name, count in _CHILDREN.items():
        family = running.get(name)
        if family is None or len(family.children) != count:
            return None
        found[name] = family.parent
        children = sorted(family.children, key=lambda child: (child.create_time(), child.pid))
        found |= {f"{name} {number}": child for number, child in enumerate(children, 1)}
    return found


def _files(directory: Path) -> list[int]:
    """Return the sizes of all files below a directory. Leave out the table's log, unless `directory` is the log."""
    sizes = []
    for folder, folders, names in os.walk(directory):
        if "_delta_log" in folders:
            folders.remove("_delta_log")
        for name in names:
            try:
                sizes.append(os.stat(f"{folder}/{name}").st_size)
            except FileNotFoundError:  # just merged or vacuumed
                continue
    return sizes
