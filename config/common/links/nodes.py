"""The connections of an event loop to the nodes of a cluster. Each command goes to the node that has its slot."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import redis
from django.conf import settings
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from config.common.cluster import urls
from config.common.links.link import ELSEWHERE, NOT_RUN, UNREACHABLE, pack
from config.common.links.server import Server, connect_with, pause
from config.common.loop import shared
from config.common.redis import Argument

Address = tuple[str, int]

_FAILURES = (*UNREACHABLE, *ELSEWHERE)
# How many redirections a command follows without a pause. Two nodes may disagree for a moment.
_MAX_REDIRECTIONS = 5
# The time between two lookups of the topology.
_LOOKUP_SECONDS = 0.05
_TOPOLOGY: bytes = pack(("CLUSTER", "SLOTS"))


def slot_of(key: Argument) -> int:
    """Return the slot of a key."""
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


class _Command(NamedTuple):
    slot: int
    packed: bytes
    timeout: float
    deadline: float
    replicated: bool


class Nodes:
    """The nodes, and the slots of each."""

    is_cluster = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        default: dict[str, Any] = settings.CACHES["default"]
        url = urls.parse("REDIS_URL", default["LOCATION"][0])
        self.loop = loop
        # When an outage began, by the loop's clock: no node has told which node has a slot. None if there is no outage.
        self.outage_since: float | None = None
        self._arguments = {**default["OPTIONS"]["CONNECTION_POOL_KWARGS"], **url.redis}
        self._named = url.addresses
        self._servers: dict[Address, Server] = {}
        self._owners: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._lookup: asyncio.Task[None] | None = None
        self._looked_up = -_LOOKUP_SECONDS  # when the last lookup began, by the loop's clock

    async def execute(self, slot: int, packed: bytes, timeout: float, *, replicated: bool = False) -> Any:
        """Send a command to the node that has the slot. See `config.common.pipelined.execute`."""
        deadline = self.loop.time() + timeout
        server, failure = self._owners[slot], None
        if server is not None:
            link = server.pipeline(len(packed), replicated).link
            if link is not None and link.is_open:
                try:
                    reply = await link.send(packed)
                except _FAILURES as error:
                    failure = error
                else:
                    server.outage_since = None
                    return reply
        return await self._repeat(_Command(slot, packed, timeout, deadline, replicated), server, failure)

    async def _repeat(self, command: _Command, server: Server | None, failure: Exception | None) -> Any:
        """Send a command until a node has run it or the time is up."""
        slot, packed, timeout, deadline, replicated = command
        sent = failure is not None and not isinstance(failure, NOT_RUN)
        if sent and isinstance(failure, RedisConnectionError):
            failure = None  # try again immediately: the node may only have closed an idle connection
        redirections, asked = 0, None
        while True:
            if isinstance(failure, AskError) and redirections < _MAX_REDIRECTIONS:
                redirections += 1
                asked = self._follow(slot, failure)
            elif failure is not None:
                redirections, asked = 0, None
                self._look_up(last=server)
                await pause(server or self, deadline, timeout, sent=sent, failure=failure)
            try:
                server = asked or self._owners[slot] or await self._find(slot, deadline if timeout else None)
                pipeline = server.pipeline(len(packed), replicated)
                link = await pipeline.connected(deadline if timeout else None)
            except _FAILURES as lost:
                failure = lost
                continue
            try:
                reply = await (link.send_asked(packed) if asked else link.send(packed))
            except _FAILURES as error:
                sent, failure = sent or not isinstance(error, NOT_RUN), error
            else:
                server.outage_since = None
                return reply

    def _follow(self, slot: int, redirection: AskError) -> Server | None:
        """Return the node that an ASK reply names. For MOVED, remember the new owner of the slot, and return None."""
        server = self._server((redirection.host, redirection.port))
        if not isinstance(redirection, MovedError):
            return server
        self._owners[slot] = server
        self._look_up(first=server)  # other slots have probably moved, too
        return None

    def _server(self, address: Address) -> Server:
        if address not in self._servers:
            kind = redis.SSLConnection if self._arguments["ssl"] else redis.Connection
            arguments = {**self._arguments, "host": address[0], "port": address[1]}
            self._servers[address] = Server(self.loop, partial(connect_with, arguments, kind))
        return self._servers[address]

    # -- which node has which slot

    async def _find(self, slot: int, deadline: float | None) -> Server:
        """Look up the topology, and return the node that has the slot."""
        async with asyncio.timeout_at(deadline):
            await asyncio.shield(self._look_up(forced=True))
        if (found := self._owners[slot]) is None:
            raise ClusterDownError("no node has the slot")
        return found

    def _look_up(
        self, *, first: Server | None = None, last: Server | None = None, forced: bool = False
    ) -> "asyncio.Task[None]":
        """Start a lookup, unless one runs or has just begun. Return the latest lookup.

        Args:
            first: The node to ask first, because it has just named another node.
            last: The node to ask last, because it has failed.
            forced: Look up again, even if the latest lookup has just ended.
        """
        now, latest = self.loop.time(), self._lookup
        if latest is not None and not (latest.done() and (forced or now >= self._looked_up + _LOOKUP_SECONDS)):
            return latest
        self._looked_up = now
        self._lookup = shared(self._ask_nodes(first, last))
        return self._lookup

    async def _ask_nodes(self, first: Server | None, last: Server | None) -> None:
        """Ask one node after the other for the topology, until one answers."""
        failure: Exception | None = None
        for server in self._candidates(first, last):
            pipeline = server.pipeline(len(_TOPOLOGY), replicated=False)
            try:
                link = await pipeline.connected(None)
                shares = await link.send(_TOPOLOGY)
            except (*_FAILURES, ResponseError) as error:
                failure = error
                continue
            self._note(shares, next(address for address, each in self._servers.items() if each is server))
            self.outage_since = None
            return
        raise RedisConnectionError(f"no node of the cluster answers: {failure}")

    def _candidates(self, first: Server | None, last: Server | None) -> list[Server]:
        servers = [*self._servers.values(), *map(self._server, self._named)]
        known = dict.fromkeys(servers)
        return sorted(known, key=lambda each: (each is last, each is not first, each.outage_since is not None))

    def _note(self, shares: list[Any], asked: Address) -> None:
        """Use the topology that the asked node has returned, and forget nodes that are not in it."""
        owners: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        listed: dict[Address, Server] = {}
        for first, last, *nodes in shares:
            addresses = list(_addresses(nodes, asked[0]))
            listed |= {address: self._server(address) for address in addresses}
            owners[first : last + 1] = [listed[addresses[0]]] * (last + 1 - first)
        for address in self._servers.keys() - listed.keys():
            self._servers[address].close_idle()
        self._servers, self._owners = listed, owners


def _addresses(nodes: list[Any], asked: str) -> Iterator[Address]:
    """Return the addresses of nodes. If a node does not know its own host, use the host of the node that we asked."""
    for host, port, *_ in nodes:
        yield (host or b"").decode() or asked, port
