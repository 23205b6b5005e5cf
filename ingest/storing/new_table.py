"""Give a dataset a new table after its own was deleted on purpose, or let it take over the table at its path."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

from config.common import redis
from config.common.errors import Refused
from datasets import services, tags
from datasets.models import Dataset
from datasets.tables.commits import watermark_transactions
from datasets.tables.table import DatasetTable
from ingest.queue import generations, redis_keys, stream, turns
from ingest.storing import ledger


class NewTableRefused(Refused):
    """The dataset does not need the change, or a drain is writing to its table."""


def start_new_table(dataset: Dataset) -> None:
    """Create an empty table for a dataset that has lost its own. Raises NewTableRefused.

    The new table continues where the old one ended: it gets the old watermark and the number of rows ever written, both
    in the commit that creates it. Queued records are then stored in it.
    """
    if not dataset.has_table:
        raise NewTableRefused("the dataset never had a table; its first records create one")
    with _no_drain(dataset):
        table = DatasetTable(dataset.project_id, dataset.pk)
        if table.refresh():
            raise NewTableRefused("the dataset still has its table")
        services.bind_table(dataset, uuid4())  # if the old table comes back, it belongs to no dataset
        table.dataset = dataset
        latest = dataset.latest_version()
        fields = latest.field_list() if latest else []
        generation = generations.current(tags.of_dataset(dataset.pk))
        if generation is None:
            table.create(fields)
            return
        watermark = _position_before_queue(dataset.pk)
        outside = ledger.outside_the_table(dataset, table, generation, watermark)
        stored = outside.accepted - outside.queued - outside.quarantined
        table.create(fields, watermark_transactions(generation, watermark, stored))


def take_over(dataset: Dataset) -> None:
    """Give a dataset the table at its path, even if it was made for another dataset. Raises NewTableRefused."""
    with _no_drain(dataset):
        table = DatasetTable(dataset.project_id, dataset.pk)
        if not table.refresh() or table.table_id is None:
            raise NewTableRefused("there is no table at its path that belongs to another dataset")
        services.bind_table(dataset, UUID(table.table_id))


@contextmanager
def _no_drain(dataset: Dataset) -> Iterator[None]:
    """Keep drains away from a dataset. Raises NewTableRefused if a drain has locked the dataset."""
    with turns.locked([dataset.pk]) as locks:
        if not locks:
            raise NewTableRefused("a drain is writing to its table; try again in a few seconds")
        yield


def _position_before_queue(dataset_id: int) -> int:
    """Return the position before the stream's first entry. If there is none, return the last entry's position, or 0."""
    client, key = redis.client(), redis_keys.stream(dataset_id)
    first = client.xrange(key, count=1)
    if first:
        return stream.position_of(first[0][0].decode()) - 1
    if not client.exists(key):
        return 0
    return stream.position_of(client.xinfo_stream(key)["last-generated-id"].decode())
