"""The client of a Redis Cluster for threads. django-redis gets it through its option CONNECTION_FACTORY."""

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from django_redis.pool import ConnectionFactory
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    ReadOnlyError,
    RedisClusterException,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from config.common.cluster import urls

T = TypeVar("T")

# If no node has run a command, wait for this time before sending it again.
_PAUSE_SECONDS = 0.05
# A node that answers with one of these errors has certainly not run the command. MovedError is a subclass of AskError.
REFUSALS = (AskError, TryAgainError, ClusterDownError, ReadOnlyError)


class Unreached(RedisConnectionError):
    """There is no connection to the node, so nothing was sent to it."""


class Cluster(RedisCluster):
    """A client that raises the same errors as redis-py's client of one server.

    redis-py follows MOVED and ASK. After a lost connection, it looks up the topology and raises ConnectionError.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that has its key."""
        return self.repeat(lambda: super(Cluster, self).execute_command(*args, **options))  # type: ignore[no-untyped-call]

    def repeat(self, attempt: Callable[[], T]) -> T:
        """Call `attempt`. While no node has run the command, call it again, for up to REDIS_TIMEOUT_SECONDS.

        Raises redis-py's ConnectionError when the time is up, or after any other error of the cluster.
        """
        deadline = time.monotonic() + settings.REDIS_TIMEOUT_SECONDS
        while True:
            try:
                return attempt()
            except (*REFUSALS, SlotNotCoveredError, Unreached) as refusal:
                if time.monotonic() + _PAUSE_SECONDS > deadline:
                    raise RedisConnectionError(f"the cluster has no node for this now: {refusal}") from refusal
                time.sleep(_PAUSE_SECONDS)
                self.look_up()
            except (ClusterError, RedisClusterException) as failure:
                raise RedisConnectionError(str(failure)) from failure

    def look_up(self, failed: ClusterNode | None = None) -> None:
        """Ask the nodes which of them has which slot. If `failed` is given, ask it after all others."""
        try:
            self.nodes_manager.initialize(last_failed_node_name=failed.name if failed else None)
        except RedisClusterException as failure:
            raise RedisConnectionError(str(failure)) from failure

    def node_of(self, key: Any) -> ClusterNode:
        """Return the primary that has a key."""
        found: ClusterNode = self.repeat(lambda: self.get_node_from_key(key))  # type: ignore[no-untyped-call]
        return found

    def determine_slot(self, *args: Any) -> int:
        """Return the slot of a command's first key.

        This key is the second element of `args`, or the fourth one for EVAL and EVALSHA. The other keys need no check
        here, because a node refuses keys of several slots. redis-py's own method asks its default node for the keys of
        some commands, and fails while that node is down.
        """
        slot: int = self.keyslot(args[3] if args[0] in ("EVAL", "EVALSHA") else args[1])  # type: ignore[no-untyped-call]
        return slot

    def get_node(self, host: str | None = None, port: int | None = None, node_name: str | None = None) -> Any:
        """Return a node. Make it if redis-py does not know it yet: redis-py knows only nodes that have slots."""
        found = super().get_node(host, port, node_name)  # type: ignore[no-untyped-call]
        if found is None and node_name:
            host, _, number = node_name.rpartition(":")
            found = ClusterNode(host, int(number), "primary")  # type: ignore[no-untyped-call]
        return found


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc]  # django-redis has no annotations
    """Makes one client of the cluster, which all threads of the process share. The client has a pool for each node."""

    _clients: ClassVar[dict[str, Cluster]] = {}
    _lock = threading.Lock()

    def connect(self, url: str) -> Any:
        """Return the client. Raises redis-py's ConnectionError if no node answers."""
        with self._lock:
            if url not in self._clients:
                self._clients[url] = self._cluster(url)
            return self._clients[url]

    def disconnect(self, connection: Any) -> None:
        """Close all connections of the client."""
        connection.disconnect_connection_pools()

    def _cluster(self, url: str) -> Cluster:
        parts = urls.parse("REDIS_URL", url)
        nodes = [ClusterNode(*address) for address in parts.addresses]  # type: ignore[no-untyped-call]
        try:
            return Cluster(startup_nodes=nodes, require_full_coverage=False, **{**self.pool_cls_kwargs, **parts.redis})
        except RedisClusterException as failure:
            raise RedisConnectionError(str(failure)) from failure
