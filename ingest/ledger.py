"""The ledger: accepted = stored + queued + quarantined, per dataset, at every moment."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deltalake.exceptions import DeltaError

from config import redis
from config.errors import Refused
from datasets.models import Dataset
from datasets.table import DatasetTable
from ingest import queue, redis_keys
from ingest.models import QuarantinedEntry

_LEDGER = Path(__file__).parent / "lua" / "ledger.lua"
# Looks at a table that is being written to until two in a row agree.
_MOST_LOOKS = 50


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
        return self.accepted == self.stored + self.queued + self.quarantined

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "adds_up": self.adds_up}


def balance(dataset: Dataset) -> Balance:
    """The dataset's ledger, all four figures as of one moment. Raises NeverStill, and what the storage raises."""
    table = DatasetTable.of(dataset)
    for _ in range(_MOST_LOOKS):
        generation = queue.generation() or ""
        position = table.position(generation) if table.refresh() else 0
        stored = table.stored(generation) if position else 0
        outside = outside_the_table(dataset, generation, position)
        still = (table.position(generation) if table.refresh() else 0) == position
        if still and outside.generation == generation:
            return Balance(dataset.pk, outside.accepted, stored, outside.queued, outside.quarantined)
        time.sleep(0.02)
    raise NeverStill(f"dataset {dataset.pk} is written to too fast to be looked at. Try again.")


@dataclass(frozen=True, slots=True)
class Outside:
    """What a dataset's ledger has beside its table, and of which generation of the queue."""

    generation: str
    accepted: int
    queued: int
    quarantined: int


def outside_the_table(dataset: Dataset, generation: str, position: int) -> Outside:
    """The ledger for a table that was written up to this position of the queue."""
    held = list(
        QuarantinedEntry.objects.filter(dataset=dataset, generation=generation, position__lte=position)
        .exclude(state=QuarantinedEntry.State.REPLAYED)  # held or discarded
        .values_list("pk", "count")
    )
    now_generation, accepted, queued, replayed = redis.load_script(_LEDGER)(
        keys=[
            redis_keys.GENERATION,
            redis_keys.stream(dataset.pk),
            redis_keys.accepted(dataset.pk),
            redis_keys.queued(dataset.pk),
            redis_keys.replayed(dataset.pk),
        ],
        args=[queue.stream_id_of(position), *(pk for pk, _ in held)],
    )
    gone = {held[at - 1][0] for at in replayed}
    quarantined = sum(count for pk, count in held if pk not in gone)
    return Outside(now_generation.decode(), accepted, queued, quarantined)


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
