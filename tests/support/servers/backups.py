"""Bring Redis into the state that a restore, a failover or a wrong clock leaves behind."""

from dataclasses import dataclass
from datetime import timedelta

from config.common import redis
from datasets.models import Dataset
from datasets.tables.table import DatasetTable
from ingest.queue import redis_keys, stream
from tests.support.entries import generation

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Backup:
    """A copy of everything that Redis has."""

    values: dict[bytes, bytes]

    @classmethod
    def made(cls) -> "Backup":
        client = redis.client()
        keys = list(client.scan_iter(count=1000))
        return cls({key: value for key in keys if (value := client.dump(key)) is not None})

    def restore(self) -> None:
        """Put the copy back. Redis loses everything that came after it."""
        client = redis.client()
        client.flushall()
        for key, value in self.values.items():
            client.restore(key, 0, value)


def last_id(dataset: Dataset) -> str:
    """Return the last ID that the dataset's stream has given to an entry."""
    found: bytes = redis.client().xinfo_stream(redis_keys.stream(dataset.pk))["last-generated-id"]
    return found.decode()


def set_clock(dataset: Dataset, ahead: timedelta) -> None:
    """Let the dataset's stream continue as if Redis's clock had been ahead by `ahead`."""
    client, key = redis.client(), redis_keys.stream(dataset.pk)
    now, _ = client.time()
    moment = f"{int((now + ahead.total_seconds()) * 1000)}-0"
    if stream.position_of(moment) > stream.position_of(last_id(dataset)):
        client.execute_command("XSETID", key, moment)


def put_table_ahead(dataset: Dataset, ahead: timedelta) -> int:
    """Give the table a watermark that Redis's clock has not reached yet. Return the watermark."""
    now, _ = redis.client().time()
    watermark = stream.position_of(f"{int((now + ahead.total_seconds()) * 1000)}-7")
    table = DatasetTable.of(dataset)
    table.refresh()
    table.append(None, generation=generation(), watermark=watermark, stored=table.stored(generation()))
    return watermark
