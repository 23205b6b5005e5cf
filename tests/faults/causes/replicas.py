"""The faults of servers that replicate: two behind sentinels, or the six of a cluster."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.faults.actors.workload import Record
from tests.faults.causes.deck import Fault
from tests.faults.causes.nemesis import Nemesis
from tests.faults.causes.restoring import Restore, records
from tests.faults.causes.schemas import UNCERTAIN_SECONDS
from tests.support.servers.clocks import behind
from tests.support.servers.cluster import Node, ValkeyCluster
from tests.support.servers.sentinels import PASSWORD, Server, Trio, wait_until

_WHOLE_SECONDS = 120.0  # a busy machine may need that long for a failover and a full copy
_PROMOTION_SECONDS = 20.0
_LAG_SECONDS = 1.0  # without WAIT, a running replica may lack what its primary got in this time
_COPY_AGE = 8  # a copy is put back after `_COPY_AGE` times the length of the fault
_HOUR = 3600


class Pair:
    """A primary and its replica. Failovers change who is which."""

    def __init__(self, servers: tuple[Server, Server]) -> None:
        self.servers = servers
        self.copied = False  # whether there is a copy of its files. Then slots must not move to it or from it.
        self.epoch = 0  # a number that each failover increases
        self.looked_at = 0.0  # when the epoch was read (monotonic clock)
        self._claimed = threading.Lock()

    def claim(self) -> tuple[Server, Server] | None:
        """Return the primary and its replica, and keep other faults away. Return None if that is not possible now."""
        if not self._claimed.acquire(blocking=False):
            return None
        roles = self._roles()
        if roles is None:
            self._claimed.release()
        return roles

    def release(self) -> None:
        self._claimed.release()

    def wait_until_whole(self) -> tuple[Server, Server]:
        """Wait until the replica has all that the primary has. Return the primary and the replica."""
        wait_until(self._roles, "a replica that has everything", _WHOLE_SECONDS)
        roles = self._roles()
        return roles or self.wait_until_whole()

    def _roles(self) -> tuple[Server, Server] | None:
        """Return the primary and the replica. Return None while the replica does not have all data of the primary."""
        try:
            states = {server: server.client().info("replication") for server in self.servers}
            primaries = [server for server, state in states.items() if state["role"] == "master"]
            if len(primaries) != 1:
                return None
            (primary,) = primaries
            (replica,) = [server for server in self.servers if server is not primary]
            written = states[primary]["master_repl_offset"]
            state = replica.client().info("replication")
        except RedisError:
            return None
        if state["role"] == "master" or state["master_port"] != primary.port:
            return None
        has_all = state["master_link_status"] == "up" and state["slave_repl_offset"] >= written
        return (primary, replica) if has_all else None


class Replicas:
    """Causes the faults of servers that replicate. A pair of servers has one fault at a time."""

    def __init__(self, nemesis: Nemesis, servers: ValkeyCluster | Trio, broker: Server, waits: int) -> None:
        self.nemesis, self.servers, self.broker, self.waits = nemesis, servers, broker, waits
        if isinstance(servers, ValkeyCluster):
            both: Sequence[tuple[Server, Server]] = list(zip(servers.primaries, servers.replicas, strict=True))
        else:
            first, second = servers.servers
            both = [(first, second)]
        self.pairs = [Pair(each) for each in both]
        self._uncertain: set[Pair] = set()
        self._lock = threading.Lock()
        for pair in self.pairs:
            self._note_epoch(pair)
        nemesis.before_verdict.append(self._note_last_failovers)

    def tasks(self) -> dict[str, Callable[[Fault], str | None]]:
        """Return the functions that cause the faults, by kind."""
        return {
            "redis: primary killed": self._of_a_pair(self._kill_primary),
            "redis: replica killed": self._of_a_pair(self._kill_replica),
            "redis: both killed": self._of_a_pair(self._kill_both),
            "redis: primary stopped": self._of_a_pair(self._stop_primary),
            "redis: replica stopped": self._of_a_pair(self._stop_replica),
            "redis: replica lags": self._of_a_pair(self._lag, lags=True),
            "redis: primary killed while its replica lags": self._of_a_pair(self._kill_ahead, lags=True),
            "redis: a clock that is an hour behind": self._of_a_pair(self._set_back, lags=True),
            "redis: restored from an older copy": self._restore,
            "redis: slot moved key by key": self._move_slot,
            "redis: slot moved at once": self._move_slot,
            "sentinel killed": self._kill_sentinel,
            "broker killed": self._kill_broker,
        }

    # -- faults of a pair: each function undoes what it did

    def _kill_primary(self, primary: Server, replica: Server, seconds: float) -> None:
        primary.kill()
        self._pause(seconds)
        _start(primary)

    def _kill_replica(self, primary: Server, replica: Server, seconds: float) -> None:
        self._kill_primary(replica, primary, seconds)

    def _kill_both(self, primary: Server, replica: Server, seconds: float) -> None:
        primary.kill()
        self._kill_primary(replica, primary, seconds)
        _start(primary)

    def _stop_primary(self, primary: Server, replica: Server, seconds: float) -> None:
        primary.send_signal(signal.SIGSTOP)
        self._pause(seconds)
        primary.send_signal(signal.SIGCONT)

    def _stop_replica(self, primary: Server, replica: Server, seconds: float) -> None:
        self._stop_primary(replica, primary, seconds)

    def _lag(self, primary: Server, replica: Server, seconds: float) -> None:
        """Make the replica lag: it continues to run, but gets nothing from its primary."""
        replica.client().config_set("masterauth", "wrong")
        primary.client().client_kill_filter(_type="replica")
        self._pause(seconds)
        replica.client().config_set("masterauth", PASSWORD)

    def _kill_ahead(self, primary: Server, replica: Server, seconds: float) -> None:
        """Kill a primary that is ahead of its replica, so that the replica takes over without the newest data."""
        # The lag is short: sentinels promote no replica that has heard nothing from its primary for 10 seconds or more.
        self._lag(primary, replica, min(seconds, 2.5))
        self._kill_primary(primary, replica, seconds)

    def _set_back(self, primary: Server, replica: Server, seconds: float) -> None:
        """Promote a replica whose clock is an hour behind. It keeps that clock until it is started again."""
        replica.kill()
        _start(replica, seconds_behind=_HOUR)
        self._pair_of(primary).wait_until_whole()
        primary.kill()
        with suppress(AssertionError):  # without a majority of the primaries, there is no promotion
            wait_until(lambda: replica.client().info("replication")["role"] == "master", "", _PROMOTION_SECONDS)
        self._pause(seconds)
        _start(primary)

    def _of_a_pair(
        self, act: Callable[[Server, Server, float], None], *, lags: bool = False
    ) -> Callable[[Fault], str | None]:
        """Return the function that causes the fault in a pair that has no fault now."""

        def task(fault: Fault) -> str | None:
            pair, roles = self._claimed(fault)
            if pair is None or roles is None:
                return None
            primary, replica = roles

            def cause() -> None:
                self._note_failover(pair)  # if there was a failover before this fault
                act(primary, replica, fault.seconds)
                pair.wait_until_whole()
                self._note_failover(pair)

            self._cause(fault, [pair], cause, uncertain=lags or not self.waits)
            return f"{primary.port} and its replica {replica.port}, {fault.seconds} s"

        return task

    def _cause(self, fault: Fault, pairs: list[Pair], act: Callable[[], None], *, uncertain: bool) -> None:
        """Cause a fault beside others, and release its pairs when it is over."""

        def run() -> None:
            try:
                if uncertain:
                    self._be_uncertain(*pairs)
                act()
                self.nemesis.history.note(f"{fault.kind}: over")
            except Exception as failure:  # noqa: BLE001  # an error of the tests themselves; the report shows it
                self.nemesis.broken.append(f"{fault.kind}: {failure!r}")
            finally:
                if uncertain:
                    self._be_certain(*pairs)
                for pair in pairs:
                    pair.release()

        self.nemesis.errand(fault, run)

    def _be_uncertain(self, *pairs: Pair) -> None:
        """Note that from now on a failover may bring older revisions back."""
        with self._lock:
            self._uncertain |= {*pairs}
            self.nemesis.world.uncertain_until = float("inf")

    def _be_certain(self, *pairs: Pair) -> None:
        with self._lock:
            self._uncertain -= {*pairs}
            if not self._uncertain:
                self.nemesis.world.uncertain_until = time.monotonic() + UNCERTAIN_SECONDS

    # -- other faults

    def _restore(self, fault: Fault) -> str | None:
        """Copy the files of a primary. Put the copy back later, when the pair has no other fault."""
        pair, roles = self._claimed(fault)
        if pair is None or roles is None:
            return None
        primary, _ = roles
        if pair.copied:
            pair.release()
            return None
        pair.copied = True
        copied_at = time.monotonic()
        copy = primary.directory / "older"
        primary.send_signal(signal.SIGSTOP)
        shutil.copytree(_files(primary), copy)
        primary.send_signal(signal.SIGCONT)
        pair.release()
        seconds = fault.seconds * _COPY_AGE

        def put_back_later() -> None:
            self._pause(seconds)
            while (roles := pair.claim()) is None:
                time.sleep(0.1)
            self._cause(fault, [pair], lambda: self._put_back(pair, copy, copied_at, *roles), uncertain=True)
            pair.copied = False

        self.nemesis.errand(fault, put_back_later)
        return f"of {primary.port}, after {seconds} s"

    def _put_back(self, pair: Pair, copy: Path, copied_at: float, primary: Server, replica: Server) -> None:
        replica.kill()
        primary.send_signal(signal.SIGSTOP)
        tables, projects = Path(self.nemesis.stack.environment["STORAGE_URL"]), self.nemesis.world.projects
        stored = {dataset: set(records(tables, projects[dataset], dataset)) for dataset in self._datasets(pair)}
        primary.kill()
        restored_at = time.monotonic()
        for server in (primary, replica):
            shutil.rmtree(_files(server))
        copy.rename(_files(primary))
        _start(primary)
        _start(replica)
        self.nemesis.restores.append(Restore(copied_at, restored_at, stored))
        pair.wait_until_whole()

    def _move_slot(self, fault: Fault) -> str | None:
        """Move the slot of a user to another primary."""
        assert isinstance(self.servers, ValkeyCluster)
        owners = sorted({*self.nemesis.world.owners.values()})
        owner = owners[int(fault.draw * len(owners))]
        slot = key_slot(f"{{{owner}}}".encode())
        source = self._pair_of(self.servers.owner(slot))
        others = [pair for pair in self.pairs if pair is not source]
        target = others[int(fault.draw * 997) % len(others)]
        if source.copied or target.copied or source.claim() is None:
            return None
        roles = target.claim()
        if roles is None:
            source.release()
            return None
        to, _ = roles
        assert isinstance(to, Node)
        move = self.servers.move_slot if fault.kind.endswith("key by key") else self.servers.migrate_slot

        def act() -> None:
            move(slot, to)
            for pair in (source, target):
                pair.wait_until_whole()
                self._note_epoch(pair)

        self._cause(fault, [source, target], act, uncertain=False)
        return f"slot {slot} of user {owner} to {to.port}"

    def _kill_sentinel(self, fault: Fault) -> str | None:
        assert isinstance(self.servers, Trio)
        sentinel = self.servers.sentinels[int(fault.draw * 3)]
        sentinel.kill()
        self.nemesis.undo_after(fault.seconds, lambda: sentinel.start("--sentinel"), "the sentinel is back")
        return f"{sentinel.port} for {fault.seconds} s"

    def _kill_broker(self, fault: Fault) -> str | None:
        self.broker.kill()
        self.nemesis.undo_after(fault.seconds, self._start_broker, "the broker is back")
        return f"for {fault.seconds} s"

    def _start_broker(self) -> None:
        if self.broker.process is None or self.broker.process.poll() is not None:
            self.broker.start()

    # -- failovers

    def _note_failover(self, pair: Pair) -> None:
        """If there was a failover since the last look, excuse the loss of records that only the old primary had.

        Only failovers without WAIT lose records. The epoch also shows failovers of servers that were slow for a moment,
        and two failovers after which the same server is primary again.
        """
        before, since = pair.epoch, pair.looked_at
        self._note_epoch(pair)
        if pair.epoch != before and not self.waits:
            lost: dict[int, set[Record]] = {dataset: set() for dataset in self._datasets(pair)}
            began_at = since - _LAG_SECONDS
            self.nemesis.restores.append(Restore(began_at, pair.looked_at, lost, began_at))
            self.nemesis.history.note(f"failover, epoch {pair.epoch}")

    def _note_epoch(self, pair: Pair) -> None:
        if isinstance(self.servers, Trio):
            pair.epoch = self.servers.epoch()
        else:
            primary, _ = pair.wait_until_whole()
            pair.epoch = int(primary.client().cluster("INFO")["cluster_my_epoch"])
        pair.looked_at = time.monotonic()

    def _note_last_failovers(self) -> None:
        for pair in self.pairs:
            self._note_failover(pair)

    # -- helpers

    def _pause(self, seconds: float) -> None:
        self.nemesis.healing.wait(seconds)

    def _claimed(self, fault: Fault) -> tuple[Pair | None, tuple[Server, Server] | None]:
        """Claim a pair that has no fault. Return it with its primary and its replica, or return None twice."""
        first = int(fault.draw * 997)
        for number in range(len(self.pairs)):
            pair = self.pairs[(first + number) % len(self.pairs)]
            roles = pair.claim()
            if roles is not None:
                return pair, roles
        return None, None

    def _pair_of(self, server: Server) -> Pair:
        return next(pair for pair in self.pairs if server in pair.servers)

    def _datasets(self, pair: Pair) -> list[int]:
        """Return the datasets whose streams are in a pair."""
        return [
            dataset
            for dataset, project in self.nemesis.world.projects.items()
            if self._has(pair, self.nemesis.world.owners[project])
        ]

    def _has(self, pair: Pair, owner: int) -> bool:
        if isinstance(self.servers, Trio):
            return True
        return self._pair_of(self.servers.owner(key_slot(f"{{{owner}}}".encode()))) is pair


def _files(server: Server) -> Path:
    return server.directory / "appendonlydir"


def _start(server: Server, *, seconds_behind: int = 0) -> None:
    """Start a server again, with its own clock or with one that is behind."""
    server.start(environment=behind(seconds_behind) if seconds_behind else None)
    server.client().config_set("masterauth", PASSWORD)  # a sentinel may have written a wrong one to its file
