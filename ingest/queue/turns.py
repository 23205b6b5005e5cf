"""Choose the dataset that a worker drains next, and lock it while it is drained.

Two things keep a second drain away from a dataset:

- `next_due` makes the dataset due again only after a lease. So a drain that died is followed by another one.
- `claim` locks the dataset while a drain runs. `new_table` uses the same lock. A drain may also begin while an earlier
  one still runs: a drain that takes longer than the lease renews its lock, but its dataset is due again.

Drains are correct without either of them, because the table refuses the second of two commits.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from config.common import redis
from datasets import installation
from datasets.models import Dataset
from ingest.queue import redis_keys
from ingest.queue.scripts import script


def next_due() -> int | None:
    """Return the dataset to drain next, or None if none is due. The projects take turns.

    The dataset is due again after a lease, unless its drain has ended by then.

    Raises:
        datasets.installation.UnusableData: The data is not ours.
    """
    installation.check()
    client, lease = redis.client(), int(settings.DRAIN_LEASE_SECONDS * 1000)
    while True:
        first = client.zrange(redis_keys.TURNS, 0, 0)
        if not first:
            return None
        project_id = int(first[0])
        keys = [redis_keys.TURNS, redis_keys.pending(project_id)]
        dataset_id: int = script("take")(keys=keys, args=[project_id, lease])
        if dataset_id:
            return dataset_id if dataset_id > 0 else None


def count_due(limit: int) -> int:
    """Return how many datasets are due, at most `limit`. See take.lua for when a dataset is due."""
    client, lease = redis.client(), int(settings.DRAIN_LEASE_SECONDS * 1000)
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    with client.pipeline(transaction=False) as pipe:
        for project_id in client.zrange(redis_keys.TURNS, 0, limit - 1):
            pipe.zcount(redis_keys.pending(int(project_id)), "-inf", now)
            pipe.zcount(redis_keys.pending(int(project_id)), f"({now + lease}", "+inf")
        due: int = sum(pipe.execute())
    return min(limit, due)


def pending() -> dict[int, float]:
    """Return the datasets with queued records, and when each is due, in ms since the epoch."""
    client = redis.client()
    with client.pipeline(transaction=False) as pipe:
        for project_id in client.zrange(redis_keys.TURNS, 0, -1):
            pipe.zrange(redis_keys.pending(int(project_id)), 0, -1, withscores=True)
        return {int(dataset_id): due for found in pipe.execute() for dataset_id, due in found}


def settle(dataset: Dataset) -> None:
    """End a drain. If the stream is empty, the dataset is no longer pending. If not, its next drain is due now."""
    keys = [redis_keys.pending(dataset.project_id), redis_keys.stream(dataset.pk), redis_keys.TURNS]
    script("end_drain")(keys=keys, args=[dataset.pk, dataset.project_id])


@dataclass(slots=True)
class Lock:
    """A drain's claim on a dataset. It lasts for one lease, unless it is renewed."""

    dataset_id: int
    token: str

    def renew(self) -> bool:
        """Renew the claim for another lease. Return False if it was lost in the meantime."""
        return bool(self._run("renew"))

    def _run(self, what: str) -> Any:
        args: list[redis.Argument] = [self.token, what, int(settings.DRAIN_LEASE_SECONDS * 1000)]
        return script("lock")(keys=[redis_keys.lock(self.dataset_id)], args=args)


@contextmanager
def claim(dataset_id: int) -> Iterator[Lock | None]:
    """Claim a dataset for a drain. Yield None if another drain has claimed it."""
    lock = Lock(dataset_id, secrets.token_hex(8))
    if not lock._run("claim"):
        yield None
        return
    try:
        yield lock
    finally:
        lock._run("release")
