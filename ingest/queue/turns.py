"""Choose the datasets that a worker drains next, and lock them while they are drained.

Two things keep a second drain away from a dataset:

- `next_due` makes a dataset due again only after a lease. So a drain that died is followed by another one.
- `locked` locks the dataset while a drain runs. `new_table` uses the same lock. A drain may also begin while an earlier
  one still runs: a drain that takes longer than the lease renews its lock, but its dataset is due again.

Drains are correct without either of them, because the table refuses the second of two commits.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings

from config.common import redis
from datasets import installation
from datasets.models import Dataset
from ingest.queue import redis_keys
from ingest.queue.scripts import script

# The most that `next_due` returns. Many small datasets share the round trips and queries of one pass of a drain, but a
# large one has a pass of its own.
MAX_DATASETS = 20
_MAX_BYTES = 256 * 1024


def now_ms() -> int:
    """Return Redis's time, in ms since the epoch."""
    seconds, micros = redis.client().time()
    return int(seconds) * 1000 + int(micros) // 1000


def next_due(due_by: int = 0) -> list[int]:
    """Return the datasets to drain next, all of one project. The list is empty if none is due. The projects take turns.

    A dataset is due again after a lease, unless its drain has ended by then.

    Args:
        due_by: Return only datasets that were due at this time, in ms since the epoch. 0 is now.

    Raises:
        datasets.installation.UnusableData: The data is not ours.
    """
    installation.check()
    client = redis.client()
    args = [int(settings.DRAIN_LEASE_SECONDS * 1000), MAX_DATASETS, _MAX_BYTES, _rest_ms(), due_by]
    without: set[bytes] = set()  # projects that had no such dataset
    while True:
        waiting = [each for each in client.zrange(redis_keys.TURNS, 0, len(without)) if each not in without]
        if not waiting:
            return []
        keys = [redis_keys.TURNS, redis_keys.pending(int(waiting[0])), redis_keys.TOTAL_BYTES]
        is_turn, *dataset_ids = script("take")(keys=keys, args=[int(waiting[0]), *args])
        if dataset_ids or not is_turn:
            return list(map(int, dataset_ids))
        without.add(waiting[0])


def _rest_ms() -> int:
    """Return for how long a dataset waits for more records while many datasets are due.

    Its records may wait one interval longer for the next dispatch, and another one for the drain.
    """
    return max(0, int((settings.FRESHNESS_SECONDS - 2 * settings.DISPATCH_SECONDS) * 1000))


def count_due(limit: int) -> int:
    """Return about how many datasets are due, at most `limit`. See take.lua for when a dataset is due."""
    client, lease, now = redis.client(), int(settings.DRAIN_LEASE_SECONDS * 1000), now_ms()
    with client.pipeline(transaction=False) as pipe:
        for project_id in client.zrange(redis_keys.TURNS, 0, limit - 1):
            pipe.zcount(redis_keys.pending(int(project_id)), "-inf", now)
            pipe.zcount(redis_keys.pending(int(project_id)), f"({now + lease}", "+inf")
            pipe.zcount(redis_keys.pending(int(project_id)), f"({now - _rest_ms()}", now)
        counts: list[int] = pipe.execute()
    due = sum(counts[::3]) + sum(counts[1::3])
    resting = sum(counts[2::3]) if due > MAX_DATASETS else 0
    return min(limit, due - resting)


def pending() -> dict[int, float]:
    """Return the datasets with queued records, and when each is due, in ms since the epoch."""
    client = redis.client()
    with client.pipeline(transaction=False) as pipe:
        for project_id in client.zrange(redis_keys.TURNS, 0, -1):
            pipe.zrange(redis_keys.pending(int(project_id)), 0, -1, withscores=True)
        return {int(dataset_id): due for found in pipe.execute() for dataset_id, due in found}


def settle(datasets: Iterable[Dataset]) -> None:
    """End drains. A dataset whose stream is empty is no longer pending. The next drain of any other one is due now."""
    redis.run_all(
        [
            redis.Call(
                script("end_drain"),
                [redis_keys.pending(dataset.project_id), redis_keys.stream(dataset.pk), redis_keys.TURNS],
                [dataset.pk, dataset.project_id],
            )
            for dataset in datasets
        ]
    )


@dataclass(slots=True)
class Lock:
    """A drain's lock of a dataset. It lasts for one lease, unless it is renewed."""

    dataset_id: int
    token: str

    def renew(self) -> bool:
        """Renew the lock for another lease. Return False if it was lost in the meantime."""
        return _run_all("renew", [self]) == [1]


def _run_all(action: str, locks: Sequence[Lock]) -> list[int]:
    lease = int(settings.DRAIN_LEASE_SECONDS * 1000)
    return redis.run_all(
        [redis.Call(script("lock"), [redis_keys.lock(lock.dataset_id)], [lock.token, action, lease]) for lock in locks]
    )


@contextmanager
def locked(dataset_ids: Iterable[int]) -> Iterator[dict[int, Lock]]:
    """Lock datasets for a drain. Yield the locks by dataset, without the datasets that another drain has locked."""
    locks = [Lock(dataset_id, secrets.token_hex(8)) for dataset_id in dataset_ids]
    acquired = [lock for lock, is_ours in zip(locks, _run_all("acquire", locks), strict=True) if is_ours]
    try:
        yield {lock.dataset_id: lock for lock in acquired}
    finally:
        _run_all("release", acquired)
