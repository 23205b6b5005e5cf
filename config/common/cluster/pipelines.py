"""Several commands in one round trip to a node of the cluster."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Any

from redis.client import Pipeline
from redis.cluster import ClusterNode
from redis.exceptions import AskError, MovedError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from config.common.cluster.connections import REFUSALS, Cluster, Unreached


class NodePipeline(Pipeline):
    """A pipeline to the node that has the key `key`. The keys of all commands must be on this node.

    redis-py's own pipeline for a cluster refuses EVALSHA.
    """

    def __init__(self, cluster: Cluster, key: Any, *, transaction: bool) -> None:
        self._cluster = cluster
        self._key = key
        self._asked: ClusterNode | None = None  # the node that an ASK reply has named
        # If True and the node refuses one command, repeat all commands, so that all replies come from one node.
        self.is_whole = transaction
        default: ClusterNode = cluster.get_default_node()  # type: ignore[no-untyped-call]
        some = cluster.get_redis_connection(default)  # until `_connect` finds the right node
        super().__init__(some.connection_pool, some.response_callbacks, transaction, None)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands, and return their replies.

        If no node has run a command, send it again, for up to REDIS_TIMEOUT_SECONDS. Raises redis-py's ConnectionError
        when the time is up, and its ConnectionError or TimeoutError if a reply is lost.
        """
        commands = list(self.command_stack)
        if not commands:
            return []
        replies = self._cluster.repeat(lambda: self._attempt(commands))
        if raise_on_error:
            self.raise_first_error(commands, replies)  # type: ignore[no-untyped-call]
        return replies

    def _attempt(self, commands: list[Any]) -> list[Any]:
        node = self._connect()
        self.command_stack = list(commands)
        try:
            replies = super().execute(raise_on_error=False)
        except MovedError:
            raise
        except AskError as elsewhere:  # only a transaction raises it
            self._asked = self._cluster.get_node(node_name=f"{elsewhere.host}:{elsewhere.port}")
            raise
        except (RedisConnectionError, RedisTimeoutError):
            with suppress(RedisConnectionError):
                self._cluster.look_up(node)
            raise
        refused = [at for at, reply in enumerate(replies) if isinstance(reply, REFUSALS)]
        if refused and self.is_whole:
            raise replies[refused[0]]
        for at in refused:
            arguments, options = commands[at]
            replies[at] = self._alone(arguments, options)
        return replies

    def _alone(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            return self._cluster.execute_command(*arguments, **options)
        except ResponseError as error:
            return error

    def _connect(self) -> ClusterNode:
        """Take a connection to the node. Raises Unreached."""
        node, asked = self._asked or self._cluster.node_of(self._key), self._asked
        self._asked = None
        client = self._cluster.get_redis_connection(node)
        self.connection_pool, self.response_callbacks = client.connection_pool, client.response_callbacks
        try:
            self.connection = self.connection_pool.get_connection()
            if asked:  # after ASKING, the node runs the next command or transaction without having the slot
                self.connection.send_command("ASKING")  # type: ignore[no-untyped-call]
                self.connection.read_response()
        except (RedisConnectionError, RedisTimeoutError) as failure:
            self.reset()
            raise Unreached(str(failure)) from failure
        return node


def spread(cluster: Cluster, commands: Sequence[tuple[Any, Sequence[Any]]]) -> list[Any]:
    """Run independent commands, in one round trip to each node.

    Args:
        cluster: The cluster.
        commands: For each command, the key that decides its node, and the command.

    Returns:
        For each command, its reply or the exception of its error.
    """
    by_node: dict[Hashable, list[int]] = {}
    for at, (key, _) in enumerate(commands):
        by_node.setdefault(cluster.node_of(key), []).append(at)
    replies: list[Any] = [None] * len(commands)
    for places in by_node.values():
        with NodePipeline(cluster, commands[places[0]][0], transaction=False) as pipe:
            for at in places:
                pipe.execute_command(*commands[at][1])  # type: ignore[no-untyped-call]
            for at, reply in zip(places, pipe.execute(raise_on_error=False), strict=True):
                replies[at] = reply
    return replies
