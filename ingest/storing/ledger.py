"""The ledger: accepted = stored + queued + quarantined, per dataset, at every moment."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from deltalake.exceptions import DeltaError

from config.common import redis
from config.common.errors import Refused
from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import generations, redis_keys, stream
from ingest.queue.scripts import script
from ingest.storing import already_stored

logger = logging.getLogger(__name__)

# Looks at a table that is being written to until two in a row agree.
_MAX_LOOKS = 50


class NeverStill(Refused):
    """The table changed at every look."""


@dataclass(frozen=True, slots=True)
class Balance:
    """One dataset's ledger, in records, of the present generation of the queue."""

    dataset_id: int
    accepted: int
    stored: int
    queued: int
    quarantined: int

    @property
    def adds_up(self) -> bool:
        parts = (self.stored, self.queued, self.quarantined)
        return self.accepted == sum(parts) and min(parts) >= 0

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "adds_up": self.adds_up}


def balance(dataset: Dataset) -> Balance:
    """The dataset's ledger, all four figures as of one moment. Raises NeverStill, and what the storage raises."""
    table = DatasetTable.of(dataset)
    for _ in range(_MAX_LOOKS):
        generation = generations.current() or ""
        position, stored = _reached(table, generation)
        outside = outside_the_table(dataset, table, generation, position)
        still = _reached(table, generation) == (position, stored)
        if still and outside.generation == generation:
            accepted = outside.accepted + outside.forgotten(position, stored)
            return Balance(dataset.pk, accepted, stored, outside.queued, outside.quarantined)
        time.sleep(0.02)
    raise NeverStill(f"dataset {dataset.pk} is written to too fast to be looked at. Try again.")


def _reached(table: DatasetTable, generation: str) -> tuple[int, int]:
    """Return the table's position, and how many rows were written to it, as of now."""
    if not table.refresh():
        return 0, 0
    return table.position(generation), table.stored(generation)


@dataclass(frozen=True, slots=True)
class Outside:
    """What a dataset's ledger has beside its table, and of which generation of the queue."""

    generation: str
    accepted: int
    queued: int
    quarantined: int
    trimmed: int  # the table's position, as far as Redis knows

    def forgotten(self, position: int, stored: int) -> int:
        """Return how many records Redis has forgotten to have accepted: it was restored from an older copy.

        That is only looked for if Redis does not know the table's position. Records that are stored, queued or in
        quarantine were accepted. Records that are missing stay missing: this is never negative.
        """
        if self.trimmed == position:
            return 0
        return max(0, stored + self.queued + self.quarantined - self.accepted)


def outside_the_table(dataset: Dataset, table: DatasetTable, generation: str, position: int) -> Outside:
    """Return the ledger for a table that was written up to this position of the queue."""
    held = list(
        QuarantinedEntry.objects.filter(dataset=dataset, generation=generation, position__lte=position)
        .exclude(state=QuarantinedEntry.State.REPLAYED)  # held or discarded
        .values_list("pk", "count")
    )
    now_generation, accepted, queued, trimmed, replayed, untrimmed = script("ledger")(
        keys=[
            redis_keys.GENERATION,
            redis_keys.stream(dataset.pk),
            redis_keys.accepted(dataset.pk),
            redis_keys.queued(dataset.pk),
            redis_keys.replayed(dataset.pk),
            redis_keys.trimmed(dataset.pk),
        ],
        args=[stream.last_id_of(position), *(pk for pk, _ in held)],
    )
    gone = {held[at - 1][0] for at in replayed}
    quarantined = sum(count for pk, count in held if pk not in gone)
    settled = (
        already_stored.count_records(dataset, table, generation, [_entry(*each) for each in untrimmed])
        if untrimmed
        else 0
    )
    return Outside(now_generation.decode(), accepted, queued - settled, quarantined, int(trimmed))


def _entry(origin: bytes, trace_id: bytes, count: int, stream_id: bytes) -> stream.Entry:
    """Return what the ledger's script says of an entry."""
    return stream.Entry(stream_id.decode(), b"", b"", count, 0, trace_id.decode(errors="replace"), origin.decode(), 0)


def recount(dataset: Dataset, generation: str, trimmed: int) -> None:
    """Count in Redis what it has forgotten to have accepted, and note the table's position there.

    `trimmed`: the position that Redis knew, which is not the table's.
    """
    table = DatasetTable.of(dataset)
    position, stored = _reached(table, generation)
    outside = outside_the_table(dataset, table, generation, position)
    forgotten = outside.forgotten(position, stored)
    keys = [
        redis_keys.GENERATION,
        redis_keys.accepted(dataset.pk),
        redis_keys.TOTAL_ACCEPTED,
        redis_keys.trimmed(dataset.pk),
    ]
    done = script("recount")(keys=keys, args=[generation, trimmed, forgotten, position])
    if done and forgotten:
        logger.warning("dataset %s: Redis has forgotten %s records that are stored", dataset.pk, forgotten)


@dataclass(slots=True)
class Audit:
    """Whether the ledgers of several datasets add up; `unchecked` are those for which there was no time."""

    checked: int = 0
    wrong: int = 0
    unchecked: int = 0


def audit(datasets: Sequence[Dataset], *, seconds: float) -> Audit:
    """Look at the ledgers of those datasets that this generation of the queue has accepted records for."""
    with redis.client().pipeline(transaction=False) as pipe:
        for dataset in datasets:
            pipe.exists(redis_keys.accepted(dataset.pk))
        used = [dataset for dataset, exists in zip(datasets, pipe.execute(), strict=True) if exists]
    result, deadline = Audit(), time.monotonic() + seconds
    for dataset in used:
        if time.monotonic() > deadline:
            result.unchecked += 1
            continue
        try:
            result.wrong += not balance(dataset).adds_up
            result.checked += 1
        except (NeverStill, DeltaError, OSError):
            result.unchecked += 1
    return result
