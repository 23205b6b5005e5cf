"""Faults around clients: the network, the quota, and the end of the client's own program."""

import time
from collections.abc import Callable, Sequence

from tests.faults.actors.operators import OperatorFailed
from tests.faults.actors.senders import Sender
from tests.faults.causes.deck import Fault
from tests.faults.causes.nemesis import Nemesis
from tests.faults.causes.network import ANSWER, REQUEST, Network

_MAX_ROOM = 500  # in records


class AroundClients:
    """Causes the faults around clients."""

    def __init__(self, nemesis: Nemesis, network: Network, senders: Sequence[Sender], owner: str, limit: int) -> None:
        self.nemesis, self.network, self.senders = nemesis, network, senders
        self.owner, self.limit = owner, limit

    def tasks(self) -> dict[str, Callable[[Fault], str | None]]:
        """Return the functions that cause the faults, by kind."""
        return {
            "client killed": self._kill,
            "network: requests cut": self._network,
            "network: answers cut": self._network,
            "network: answers lost": self._network,
            "network: away": self._network,
            "quota reached": self._quota,
        }

    def _kill(self, fault: Fault) -> str | None:
        return self.senders[int(fault.draw * len(self.senders))].kill()

    def _network(self, fault: Fault) -> str | None:
        if self.network.is_troubled:
            return None
        what = fault.kind.partition(": ")[2]
        if what == "away":
            self.network.go_away()
        elif what == "answers lost":
            self.network.loses_answers = True
        else:
            self.network.cut = REQUEST if what == "requests cut" else ANSWER
        self.nemesis.undo_after(fault.seconds, self._mend, "the network is back")
        return f"for {fault.seconds} s"

    def _mend(self) -> None:
        self.network.cut, self.network.loses_answers = "", False
        self.network.come_back()

    def _quota(self, fault: Fault) -> str | None:
        if self.nemesis.admin.busy:
            return None
        room = int(fault.draw * _MAX_ROOM)
        self.nemesis.errand(fault, lambda: self._limit(room, fault.seconds))
        return f"after {room} more records, for {fault.seconds} s"

    def _limit(self, room: int, seconds: float) -> None:
        (owner,) = {*self.nemesis.world.owners.values()}
        usage = self.nemesis.admin.do("usage", owner=owner)["redis"]
        try:
            self._set_limit(max(usage.values(), default=0) + room)
            time.sleep(seconds)
        except OperatorFailed as failure:  # the limit may have been set all the same
            self.nemesis.history.note(str(failure))
        self.nemesis.insist(lambda: self._set_limit(self.limit))

    def _set_limit(self, limit: int) -> None:
        self.nemesis.admin.do("command", arguments=["quota", self.owner, "--limit", str(limit)])
