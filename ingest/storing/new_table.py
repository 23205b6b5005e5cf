"""A table begun anew, where the old one was deleted on purpose."""

from uuid import UUID, uuid4

from config.common import redis
from datasets import services
from datasets.models import Dataset
from datasets.tables.commits import reached
from datasets.tables.table import DatasetTable
from ingest.queue import generations, redis_keys, stream, turns
from ingest.storing import ledger


class NotGone(Exception):
    """The dataset needs no new table, or a drain is at work on it."""


def begin_anew(dataset: Dataset) -> None:
    """Make an empty table where a dataset has lost its own. Raises NotGone.

    It goes on from where the old one was: what is queued will be in it, and its count of rows ever written is that of
    the ledger. Both are in the commit that makes it.
    """
    if not dataset.has_table:
        raise NotGone("it has had no table yet: its first records make one")
    with turns.claim(dataset.pk) as lock:
        if lock is None:
            raise NotGone("a drain is at work on it")
        table = DatasetTable(dataset.project_id, dataset.pk)
        if table.refresh():
            raise NotGone("its table is there")
        services.bind_table(dataset, uuid4())  # if the old table comes back, it is foreign
        table.dataset = dataset
        latest = dataset.latest_version()
        fields = latest.field_list() if latest else []
        generation = generations.current()
        if generation is None:
            table.create(fields)
            return
        position = _before_what_is_queued(dataset.pk)
        outside = ledger.outside_the_table(dataset, table, generation, position)
        stored = outside.accepted - outside.queued - outside.quarantined
        table.create(fields, reached(generation, position, stored))


def take_over(dataset: Dataset) -> None:
    """Bind a dataset to the table that is in its place, whichever dataset it was made for. Raises NotGone."""
    with turns.claim(dataset.pk) as lock:
        if lock is None:
            raise NotGone("a drain is at work on it")
        table = DatasetTable(dataset.project_id, dataset.pk)
        if not table.refresh() or table.table_id is None:
            raise NotGone("there is no table in its place that belongs to another dataset")
        services.bind_table(dataset, UUID(table.table_id))


def _before_what_is_queued(dataset_id: int) -> int:
    """The position just before the stream's first entry; of its last, if all are gone."""
    client, key = redis.client(), redis_keys.stream(dataset_id)
    first = client.xrange(key, count=1)
    if first:
        return stream.position_of(first[0][0].decode()) - 1
    if not client.exists(key):
        return 0
    return stream.position_of(client.xinfo_stream(key)["last-generated-id"].decode())
