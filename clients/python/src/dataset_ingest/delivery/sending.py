"""Send batches until the service has answered. Repeat a batch, halve it, or send it again without its bad records."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dataset_ingest.delivery import answers
from dataset_ingest.delivery.batches import Batch, Item, Outcome
from dataset_ingest.delivery.steps import Answer, NoAnswer, Pause, Steps, Write, replied
from dataset_ingest.errors import DatasetError, OutcomeUnknownError, ValidationError
from dataset_ingest.options import Options
from dataset_ingest.receipts import Receipt
from dataset_ingest.schema.problems import Problem

# The service remembers an Idempotency-Key for a day. After this time, a batch that may have been accepted is not
# repeated.
MAX_KEY_SECONDS = 23 * 3600.0
_FORGOTTEN = (
    "The service may have accepted the records, but has not confirmed it within 23 hours. If they are sent again, they "
    "may be stored twice."
)

Tell = Callable[[Outcome, Sequence[Item]], None]


class Journal(Protocol):
    """What a spool stores about batches."""

    def begin(self, batch: Batch) -> None:
        """Store a batch with its key, before it is sent."""

    def not_accepted(self, batch: Batch) -> None:
        """Mark a batch: the service has certainly accepted no attempt so far."""

    def replace(self, batch: Batch, others: Sequence[Batch]) -> None:
        """Replace a batch that was not accepted by other batches, which have its records."""

    def settle(self, batch: Batch, outcome: Outcome) -> None:
        """Forget the records of a batch, because their outcome is known."""


@dataclass
class Sender:
    """Sends batches to one dataset."""

    path: str
    dataset_id: int | None
    options: Options
    journal: Journal | None = None

    def send(self, batches: Sequence[Batch], *, endless: bool = False, halve: bool = True) -> Steps[Receipt]:
        """Send batches in order. Return one receipt for all of them.

        Args:
            batches: The batches.
            endless: Whether to wait without end for a service that does not answer or fails.
            halve: Whether to send the halves of a batch that is too large.

        Raise the first error. Its `indexes` are those of all records that were not accepted, or perhaps not accepted.
        """
        waiting = list(batches)
        total = Receipt(self.dataset_id, 0)
        while waiting:
            batch = waiting.pop(0)
            reply, uncertain = yield from self._attempts(batch, endless=endless)
            if answers.is_accepted(reply):
                total += answers.receipt(reply, self.dataset_id, len(batch))
            elif halve and _can_be_halved(batch, reply, uncertain):
                waiting[:0] = batch.halves()
            else:
                left = [*batch.indexes, *(index for each in waiting for index in each.indexes)]
                raise self._error(reply, uncertain, left)
        return total

    def deliver(self, batch: Batch, tell: Tell) -> Steps[None]:
        """Send a batch and settle each of its records. If some records are bad, send the others without them.

        Args:
            batch: The batch.
            tell: Called with each outcome and the records that have this outcome.
        """
        if batch.uncertain_since and time.time() > batch.uncertain_since + MAX_KEY_SECONDS:
            yield from self._settle(batch, OutcomeUnknownError(_FORGOTTEN, dataset_id=self.dataset_id), tell)
            return
        waiting = [batch]
        while waiting:
            part = waiting.pop(0)
            reply, uncertain = yield from self._attempts(part, endless=self.journal is not None)
            if answers.is_accepted(reply):
                yield from self._settle(part, answers.receipt(reply, self.dataset_id, len(part)), tell)
            elif _can_be_halved(part, reply, uncertain):
                waiting[:0] = yield from self._replace(part, part.halves())
            else:
                error = self._error(reply, uncertain, (0,))
                if not isinstance(error, ValidationError):
                    yield from self._settle(part, error, tell)
                    continue
                good, bad = _separated(part, error)
                yield from self._replace(part, [*good, *bad])
                for each, problem in bad.items():
                    yield from self._settle(each, problem, tell)
                waiting[:0] = good

    def _write(self, write: Callable[[Journal], None]) -> Steps[None]:
        journal = self.journal
        if journal is not None:
            yield Write(lambda: write(journal))

    def _replace(self, part: Batch, others: list[Batch]) -> Steps[list[Batch]]:
        yield from self._write(lambda journal: journal.replace(part, others))
        return others

    def _settle(self, part: Batch, outcome: Outcome, tell: Tell) -> Steps[None]:
        yield from self._write(lambda journal: journal.settle(part, outcome))
        for item in part.items:
            item.settle(outcome)
        tell(outcome, part.items)

    def _attempts(self, batch: Batch, *, endless: bool) -> Steps[tuple[Answer | NoAnswer, bool]]:
        """Send a batch until another attempt would not help, or until the limits for retries are reached.

        Return the last reply, and whether the service may have accepted the batch although this reply does not say so.
        """
        request = batch.request(self.path)
        began = time.monotonic()
        number = 0
        while True:
            if number == 0 or batch.uncertain_since is None:
                yield from self._write(lambda journal: journal.begin(batch))
            reply = replied((yield request))
            if answers.may_be_accepted(reply):
                batch.uncertain_since = batch.uncertain_since or time.time()
            elif answers.is_certain(reply):
                batch.uncertain_since = None
            if not answers.is_retried(reply):
                break
            if batch.uncertain_since is None:
                yield from self._write(lambda journal: journal.not_accepted(batch))
            pause = self._pause(number, reply)
            if not self._may_go_on(batch, number, time.monotonic() + pause - began, endless and _is_away(reply)):
                break
            yield Pause(pause)
            number += 1
        return reply, batch.uncertain_since is not None and not answers.is_accepted(reply)

    def _may_go_on(self, batch: Batch, number: int, seconds: float, endless: bool) -> bool:
        """Return whether another attempt may follow, `seconds` after the first attempt."""
        if batch.uncertain_since and time.time() > batch.uncertain_since + MAX_KEY_SECONDS:
            return False
        return endless or (number != self.options.max_retries and seconds <= self.options.retry_for)

    def _pause(self, number: int, reply: Answer | NoAnswer) -> float:
        """Return how long to wait before the next attempt: a random time, but not less than the service asks for."""
        longest = min(self.options.max_backoff, self.options.min_backoff * 2.0 ** min(number, 30))
        return max(longest * secrets.randbelow(1000) / 1000, answers.retry_after(reply))

    def _error(self, reply: Answer | NoAnswer, uncertain: bool, indexes: Sequence[int]) -> DatasetError:
        found = answers.error(reply, self.dataset_id, indexes)
        return answers.unknown(found) if uncertain else found


def _is_away(reply: Answer | NoAnswer) -> bool:
    """Return whether the service may be down. A service that answers 429 works."""
    return isinstance(reply, NoAnswer) or reply.status != 429


def _can_be_halved(batch: Batch, reply: Answer | NoAnswer, uncertain: bool) -> bool:
    return isinstance(reply, Answer) and reply.status == 413 and len(batch) > 1 and not uncertain


def _separated(batch: Batch, error: ValidationError) -> tuple[list[Batch], Mapping[Batch, ValidationError]]:
    """Return a batch of the good records, if there are any, and a batch with its error for each bad record."""
    found: dict[int, list[Problem]] = {}
    for problem in error.problems:
        if problem.index is not None and problem.index < len(batch):
            found.setdefault(problem.index, []).append(problem)
    if not found:  # the service does not say which records it means
        return [], {Batch([item]): error for item in batch.items}
    good: list[Item] = [item for place, item in enumerate(batch.items) if place not in found]
    bad = {Batch([batch.items[place]]): error.of_one(problems) for place, problems in found.items()}
    return ([Batch(good)] if good else []), bad
