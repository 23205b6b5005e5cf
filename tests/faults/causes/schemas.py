"""Publish schema versions, with and without a grace period.

The history keeps the times in which each version may have accepted records.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.actors.operators import Operator, OperatorFailed
from tests.faults.actors.workload import BASE_SCHEMA, OPTIONAL_FIELDS, Asked, Reign, World

# If the announcement of a change is lost, the catalog's time limit (set in `run`) repairs that after this time.
CATALOG_TTL_SECONDS = 5
UNCERTAIN_SECONDS = CATALOG_TTL_SECONDS + 5


@dataclass(frozen=True)
class Change:
    """A field that a new version adds to a dataset's schema or removes from it, and the grace period in seconds."""

    dataset: int
    name: str
    grace: float = 0.0  # with 0, the previous version ends at once
    ends_early: bool = False  # an admin ends the grace period before its time


class Schemas:
    """The schemas of all datasets, as an admin changes them."""

    def __init__(self, admin: Operator, world: World, note: Callable[[str], None]) -> None:
        self.admin, self.world, self.note = admin, world, note
        self.changing = threading.Lock()

    def change(self, change: Change) -> None:
        """Publish a version, and end its grace period early if that is planned."""
        with self.changing:
            number = self._publish(change)
        if change.ends_early:
            time.sleep(change.grace / 2)
            with self.changing:
                self._end(change.dataset, number)

    def _publish(self, change: Change) -> int:
        """Publish the version after the latest one. Return its number."""
        dataset = change.dataset
        latest, _ = self._insist("schema", dataset=dataset)
        before, number = frozenset(latest["fields"]) - BASE_SCHEMA.keys(), int(latest["number"]) + 1
        wanted = before ^ {change.name}
        self.world.asked[dataset] = Asked(before, math.inf, number - 1)
        ordered, reigns = time.monotonic(), self.world.reigns[dataset]
        reigns[number] = Reign(wanted, ordered, math.inf)  # even if the order fails, it may have been carried out
        fields = {**BASE_SCHEMA, **{each: OPTIONAL_FIELDS[each] for each in sorted(wanted)}}
        _, certain_since = self._insist("publish", dataset=dataset, schema=fields, grace=change.grace)
        for earlier in range(1, number):
            grace = change.grace if earlier == number - 1 else 0.0
            reigns[earlier].ended = min(reigns[earlier].ended, certain_since + grace)
        self.world.asked[dataset] = Asked(
            optional=wanted,
            certain_since=certain_since,
            number=number,
            earlier=before if change.grace else None,
            earlier_surely_until=ordered + change.grace,
            earlier_until=certain_since + change.grace,
        )
        return number

    def _end(self, dataset: int, number: int) -> None:
        asked = self.world.asked[dataset]
        if asked.number != number:
            return  # a newer version was published, which has ended the grace period
        asked.earlier_surely_until = 0.0
        _, ended = self._insist("end_grace", dataset=dataset, number=number)
        asked.earlier_until = min(asked.earlier_until, ended)
        reign = self.world.reigns[dataset][number - 1]
        reign.ended = min(reign.ended, ended)

    def _insist(self, order: str, **arguments: Any) -> tuple[Any, float]:
        """Repeat an order until it is carried out. Return the answer, and the time after which the change is certain.

        Raises:
            OperatorFailed: It was not carried out. Nothing about the dataset's schema is certain any more.
        """
        for failures in range(8):  # if saving fails, an admin saves again
            try:
                answer = self.admin.do(order, **arguments)
                return answer, time.monotonic() + (UNCERTAIN_SECONDS if failures else 0)
            except OperatorFailed as failure:
                self.note(str(failure))
                time.sleep(1)
        raise OperatorFailed(f"{order} {arguments['dataset']}: gave up")
