"""A real Valkey Cluster on free ports of 127.0.0.1."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis.crc import key_slot
from redis.exceptions import RedisError

from config.common.cluster.connections import ClusterConnectionFactory
from config.processes.cluster import free_ports, join
from tests.support.servers import sentinels
from tests.support.servers.sentinels import PASSWORD, Server, wait_until

FACTORY = f"{ClusterConnectionFactory.__module__}.{ClusterConnectionFactory.__qualname__}"
_NODE_TIMEOUT_MS = 1000


class Node(Server):
    """One Valkey process with cluster mode."""

    def __init__(self, directory: Path, port: int) -> None:
        options = {
            "requirepass": f'"{PASSWORD}"',
            "primaryauth": f'"{PASSWORD}"',
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
            "loglevel": "warning",
            "cluster-enabled": "yes",
            "cluster-node-timeout": _NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",
            "cluster-allow-replica-migration": "no",  # a primary stays a primary after its last slot has moved
            "repl-diskless-sync-delay": 0,
        }
        super().__init__(directory, *(f"{name} {value}" for name, value in options.items()), port=port)

    @cached_property
    def name(self) -> str:
        """The ID by which the nodes name this node."""
        name: str = self.client().cluster("MYID").decode()
        return name

    def shares(self) -> list[Any]:
        """Return the shares that the node knows: the first slot, last slot, primary and replicas of each share."""
        found: list[Any] = self.client().execute_command("CLUSTER", "SLOTS")
        return found


class ValkeyCluster:
    """Primaries that share all slots. If `replicas` is true, each primary has one replica.

    The attributes `primaries` and `replicas` are the roles at the start.
    """

    def __init__(self, directory: Path, primaries: int, *, replicas: bool) -> None:
        ports = free_ports(primaries * (2 if replicas else 1))
        nodes = [Node(directory / f"node-{port}", port) for port in ports]
        self.directory = directory
        self.primaries, self.replicas = nodes[:primaries], nodes[primaries:]

    @property
    def nodes(self) -> list[Node]:
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """The REDIS_URL of a client. It names one node."""
        return f"redis+cluster://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.primaries[0].port}"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        join([node.client() for node in self.nodes], len(self.primaries))
        wait_until(lambda: all(self._is_ready(each) for each in self.nodes), "a cluster whose nodes know each other")

    def _knows_all(self, node: Node) -> bool:
        info = node.client().cluster("INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == len(self.nodes)

    def _is_ready(self, node: Node) -> bool:
        client, shares = node.client(), node.shares()
        replicated = node not in self.replicas or client.info("replication")["master_link_status"] == "up"
        return (
            self._knows_all(node)
            and len(shares) == len(self.primaries)
            and sum(len(replicas) for _, _, _, *replicas in shares) == len(self.replicas)
            and replicated
        )

    def add_primary(self) -> Node:
        """Start another primary, which has no slot."""
        (port,) = free_ports(1)
        node = Node(self.directory / f"node-{port}", port)
        node.start()
        self.primaries.append(node)
        self.primaries[0].client().cluster("MEET", "127.0.0.1", port)
        wait_until(lambda: all(self._knows_all(each) for each in self.nodes), "a node that all know")
        return node

    def remove_primary(self, node: Node) -> None:
        """End a primary that has no slot."""
        node.kill()
        self.primaries.remove(node)
        for other in self.nodes:
            other.client().cluster("FORGET", node.name)

    def owner(self, slot: int, asked: Node | None = None) -> Node:
        """Return the primary that has the slot, according to the node `asked`, or to the first node that answers."""
        for node in [asked] if asked else self.nodes:
            try:
                shares = node.shares()
            except RedisError:
                continue
            for first, last, primary, *_ in shares:
                if first <= slot <= last:
                    return next(each for each in self.nodes if each.port == primary[1])
        raise AssertionError(f"no node has slot {slot}")

    def key_on(self, node: Node, name: str = "key") -> str:
        """Return a key, with a tag, that is on this node."""
        ranges = [(first, last) for first, last, primary, *_ in node.shares() if primary[1] == node.port]
        for number in range(100_000):
            slot = key_slot(f"{{{number}}}".encode())
            if any(first <= slot <= last for first, last in ranges):
                return f"{{{number}}}:{name}"
        raise AssertionError(f"no key for node {node.port}")

    def begin_move(self, slot: int, to: Node) -> Node:
        """Let a slot migrate. Return its present owner, which now answers with ASK for keys that it does not have."""
        source = self.owner(slot)
        to.client().cluster("SETSLOT", slot, "IMPORTING", source.name)
        source.client().cluster("SETSLOT", slot, "MIGRATING", to.name)
        return source

    def move_keys(self, slot: int, source: Node, to: Node, *keys: str) -> None:
        """Move these keys of a slot. If no keys are given, move all keys of the slot."""
        client = source.client()
        # redis-py would decode the names of keys, and some are binary.
        while found := keys or client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            client.execute_command(
                *("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "REPLACE", "AUTH", PASSWORD, "KEYS", *found)
            )
            if keys:
                return

    def end_move(self, slot: int, to: Node) -> None:
        """Make the other node the owner of the slot."""
        to.client().cluster("SETSLOT", slot, "NODE", to.name)
        for node in self.nodes:
            # A node that does not answer, or that is a replica, learns this from the other nodes.
            with suppress(RedisError):
                node.client().cluster("SETSLOT", slot, "NODE", to.name)

    def move_slot(self, slot: int, to: Node) -> None:
        """Move a slot and its keys to another node key by key, as resharding does with every engine."""
        source = self.begin_move(slot, to)
        self.move_keys(slot, source, to)
        self.end_move(slot, to)

    def migrate_slot(self, slot: int, to: Node) -> None:
        """Move a slot and its keys to another node in one step, as Valkey 9 can."""
        source = self.owner(slot)
        source.client().cluster("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.name)
        wait_until(lambda: all(self._has(node, slot, to) for node in self.primaries), "a moved slot")

    def _has(self, node: Node, slot: int, owner: Node) -> bool:
        """Return whether a node says that the slot belongs to the owner."""
        return any(first <= slot <= last and primary[1] == owner.port for first, last, primary, *_ in node.shares())

    def replica_of(self, primary: Node) -> Node:
        """Return the replica that `primary` had at the start."""
        return self.replicas[self.primaries.index(primary)]

    def failover(self, primary: Node) -> Node:
        """Let a primary and its replica change their roles without loss. Return the new primary."""
        replica = self.replica_of(primary)
        replica.client().cluster("FAILOVER")
        self.wait_for_promotion(replica)
        return replica

    def wait_for_promotion(self, replica: Node) -> None:
        """Wait until a replica has become a primary, and says that the cluster works."""
        wait_until(lambda: replica.client().info("replication")["role"] == "master", "a promotion")
        wait_until(lambda: replica.client().cluster("INFO")["cluster_state"] == "ok", "a cluster that works")


def use(settings: Any, url: str) -> None:
    """Use a cluster in this process, as if REDIS_URL named it."""
    settings.REDIS_IS_CLUSTER = True
    sentinels.use(settings, url, CONNECTION_FACTORY=FACTORY)


@contextmanager
def cluster(directory: Path, primaries: int = 3, *, replicas: bool = False) -> Iterator[ValkeyCluster]:
    """Start a cluster. End all its nodes at the end."""
    found = ValkeyCluster(directory, primaries, replicas=replicas)
    try:
        found.start()
        yield found
    finally:
        for node in found.nodes:
            node.kill()
