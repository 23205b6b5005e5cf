"""The ledger: accepted = stored + queued + quarantined, for each dataset and at every moment."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from config.common import redis
from config.common.cluster.key_tags import tagged
from config.common.errors import Refused
from config.lazy import deltalake
from datasets import tags
from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.models import QuarantinedEntry
from ingest.queue import generations, redis_keys, stream
from ingest.queue.scripts import script
from ingest.storing import already_stored

logger = logging.getLogger(__name__)

# A ledger is correct only if the table did not change while the rest was read. If the table changed, everything is read
# again. After this number of reads, TableTooBusy is raised.
_MAX_READS = 50


class TableTooBusy(Refused):
    """The table changed each time it was read."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The ledger of one dataset, in records, for the present generation of the queue."""

    dataset_id: int
    accepted: int
    stored: int
    queued: int
    quarantined: int

    @property
    def adds_up(self) -> bool:
        """Whether every accepted record is stored, queued or in quarantine."""
        parts = (self.stored, self.queued, self.quarantined)
        return self.accepted == sum(parts) and min(parts) >= 0

    def as_json(self) -> dict[str, object]:
        """Return the figures, and whether they add up, as JSON values."""
        return {**asdict(self), "adds_up": self.adds_up}


def balance(dataset: Dataset) -> Balance:
    """Return the ledger of a dataset. All four figures are from the same moment.

    Raises:
        TableTooBusy: The table changed each time it was read.
        deltalake.exceptions.DeltaError, OSError: The storage failed.
    """
    table = DatasetTable.of(dataset)
    for _ in range(_MAX_READS):
        generation = generations.current(tags.of_dataset(dataset.pk)) or ""
        watermark, stored = _read_table(table, generation)
        outside = outside_the_table(dataset, table, generation, watermark)
        is_unchanged = _read_table(table, generation) == (watermark, stored)
        if is_unchanged and outside.generation == generation:
            accepted = outside.accepted + outside.records_redis_lost(watermark, stored)
            return Balance(dataset.pk, accepted, stored, outside.queued, outside.quarantined)
        time.sleep(0.02)
    raise TableTooBusy(f"The table of dataset {dataset.pk} changed each time it was read. Try again.")


def _read_table(table: DatasetTable, generation: str) -> tuple[int, int]:
    """Read the newest state of the table. Return its watermark, and how many rows were ever written to it."""
    if not table.refresh():
        return 0, 0
    return table.watermark(generation), table.stored(generation)


@dataclass(frozen=True, slots=True)
class OutsideTheTable:
    """What Redis and quarantine know of a dataset's records, in one generation of the queue."""

    generation: str
    accepted: int
    queued: int
    quarantined: int
    trimmed: int  # the table's watermark as of the last trim, as far as Redis knows

    def records_redis_lost(self, watermark: int, stored: int) -> int:
        """Return how many accepted records Redis has not counted, because it was restored from an older copy.

        Only a Redis that does not know the table's watermark can have lost records. Records that are stored, queued or
        in quarantine were accepted. The result is never negative, so it cannot hide that a record is missing.
        """
        if self.trimmed == watermark:
            return 0
        return max(0, stored + self.queued + self.quarantined - self.accepted)


def outside_the_table(dataset: Dataset, table: DatasetTable, generation: str, watermark: int) -> OutsideTheTable:
    """Return what Redis and quarantine know of a dataset whose table has this watermark."""
    kept = list(
        QuarantinedEntry.objects.filter(dataset=dataset, generation=generation, position__lte=watermark)
        .exclude(state=QuarantinedEntry.State.REPLAYED)
        .values_list("pk", "count")
    )
    now_generation, accepted, queued, trimmed, replayed, untrimmed = script("ledger")(
        keys=[
            tagged(redis_keys.GENERATION, tags.of_dataset(dataset.pk)),
            redis_keys.stream(dataset.pk),
            redis_keys.accepted(dataset.pk),
            redis_keys.queued(dataset.pk),
            redis_keys.replayed(dataset.pk),
            redis_keys.trimmed(dataset.pk),
        ],
        args=[stream.last_id_of(watermark), *(pk for pk, _ in kept)],
    )
    queued_again = {kept[number - 1][0] for number in replayed}
    quarantined = sum(count for pk, count in kept if pk not in queued_again)
    entries = [_entry(*each) for each in untrimmed]
    settled = already_stored.count_records(dataset, table, generation, entries) if entries else 0
    return OutsideTheTable(now_generation.decode(), accepted, queued - settled, quarantined, int(trimmed))


def _entry(origin: bytes, trace_id: bytes, count: int, stream_id: bytes, renumbered_from: bytes) -> stream.Entry:
    """Return an entry, without its body, from a reply of ledger.lua."""
    trace = trace_id.decode(errors="replace")
    return stream.Entry(stream_id.decode(), b"", b"", count, 0, trace, origin.decode(), 0, renumbered_from.decode())


def recount(dataset: Dataset, generation: str, trimmed: int) -> None:
    """Correct a Redis that was restored from an older copy: its count of accepted records, and the watermark it knows.

    Args:
        dataset: The dataset whose counts are corrected.
        generation: The generation of the queue.
        trimmed: The watermark that Redis had. If Redis has another watermark now, do nothing.
    """
    table = DatasetTable.of(dataset)
    watermark, stored = _read_table(table, generation)
    outside = outside_the_table(dataset, table, generation, watermark)
    lost = outside.records_redis_lost(watermark, stored)
    tag = tags.of_dataset(dataset.pk)
    keys = [
        tagged(redis_keys.GENERATION, tag),
        redis_keys.accepted(dataset.pk),
        tagged(redis_keys.TOTAL_ACCEPTED, tag),
        redis_keys.trimmed(dataset.pk),
    ]
    done = script("recount")(keys=keys, args=[generation, trimmed, lost, watermark])
    if done and lost:
        logger.warning("dataset %s: Redis had not counted %s stored records; corrected", dataset.pk, lost)


@dataclass(slots=True)
class Audit:
    """How many ledgers were checked, how many of them do not add up, and how many could not be checked."""

    checked: int = 0
    wrong: int = 0
    unchecked: int = 0


def audit(datasets: Sequence[Dataset], *, seconds: float) -> Audit:
    """Check ledgers, and begin none after `seconds`. Leave out datasets that never accepted a record."""
    found = redis.each([("EXISTS", redis_keys.accepted(dataset.pk)) for dataset in datasets])
    used = [dataset for dataset, exists in zip(datasets, found, strict=True) if exists]
    result, deadline = Audit(), time.monotonic() + seconds
    for dataset in used:
        if time.monotonic() > deadline:
            result.unchecked += 1
            continue
        try:
            result.wrong += not balance(dataset).adds_up
            result.checked += 1
        except (TableTooBusy, deltalake.exceptions.DeltaError, OSError):
            result.unchecked += 1
    return result
