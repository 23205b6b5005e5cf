"""Choose the datasets that a worker drains next, and lock them while they are drained.

Two things keep a second drain away from a dataset:

- `next_due` makes a dataset due again only after a lease. So if a drain dies, another one follows after the lease.
- `locked` locks the dataset while a drain runs. If a drain takes longer than the lease, the dataset is due again. But
  the drain renews its lock, so no other drain begins. `new_table` uses the same lock.

Drains are correct even without these two things, because the table refuses the second of two commits.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings

from config.common import redis
from config.common.cluster.key_tags import NO_TAG, tagged
from datasets import installation, tags
from datasets.models import Dataset
from ingest.queue import redis_keys
from ingest.queue.scripts import script

# `next_due` returns at most this many datasets, with at most this many queued bytes. Many small datasets share the
# round trips and queries of one pass of a drain, but a large dataset has a pass of its own.
MAX_DATASETS = 20
_MAX_BYTES = 256 * 1024


def now_ms(tag: int = NO_TAG) -> int:
    """Return the time of the Redis that has the keys with a tag, in ms since the epoch."""
    with redis.pipeline(_turns(tag), transaction=False) as pipe:
        pipe.time()
        ((seconds, micros),) = pipe.execute()
    return int(seconds) * 1000 + int(micros) // 1000


def due() -> Iterator[list[int]]:
    """Yield lists of datasets that were due when this began. A list has datasets of one project. Projects take turns.

    In a cluster, the owners of projects take turns, and then each owner's projects.

    Raises:
        datasets.installation.UnusableData: The data is of another installation or release.
    """
    began_ms: dict[int, int] = {}  # by tag, because each server has a clock
    is_done = False
    while not is_done:
        is_done = True
        for tag in _waiting():
            if tag not in began_ms:
                began_ms[tag] = now_ms(tag)
            if dataset_ids := next_due(began_ms[tag], tag):
                is_done = False
                yield dataset_ids


def _waiting() -> list[int]:
    """Return the tags whose projects may have a turn. The tag that has waited the longest is the first."""
    found = tags.in_use()
    if found == [NO_TAG]:
        return found
    first = redis.each([("ZRANGE", _turns(tag), 0, 0, "WITHSCORES") for tag in found])
    return [tag for _, tag in sorted((float(turn[1]), tag) for turn, tag in zip(first, found, strict=True) if turn)]


def next_due(due_by: int = 0, tag: int = NO_TAG) -> list[int]:
    """Return the datasets to drain next, all of one project. If none is due, the list is empty. Projects take turns.

    A dataset is due again after a lease, unless its drain has ended before.

    Args:
        due_by: Return only datasets that were due at this time, in ms since the epoch. 0 means now.
        tag: The tag of the keys to look at.

    Raises:
        datasets.installation.UnusableData: The data is of another installation or release.
    """
    installation.check([tag])
    args = [int(settings.DRAIN_LEASE_SECONDS * 1000), MAX_DATASETS, _MAX_BYTES, _rest_ms(), due_by]
    without: set[bytes] = set()  # projects that had no such dataset
    while True:
        projects = redis.client().zrange(_turns(tag), 0, len(without))
        waiting = [each for each in projects if each not in without]
        if not waiting:
            return []
        keys = [_turns(tag), redis_keys.pending(int(waiting[0])), tagged(redis_keys.TOTAL_BYTES, tag)]
        is_turn, *dataset_ids = script("take")(keys=keys, args=[int(waiting[0]), *args])
        if dataset_ids or not is_turn:
            return list(map(int, dataset_ids))
        without.add(waiting[0])


def _turns(tag: int) -> str:
    return tagged(redis_keys.TURNS, tag)


def _rest_ms() -> int:
    """Return for how many ms a dataset waits for more records while many datasets are due.

    After that, its records may wait one dispatch interval for the next dispatch, and another one for the drain.
    """
    return max(0, int((settings.FRESHNESS_SECONDS - 2 * settings.DISPATCH_SECONDS) * 1000))


def count_due(limit: int) -> int:
    """Return about how many datasets are due, at most `limit`. See take.lua for when a dataset is due."""
    projects = _projects(limit)
    if not projects:
        return 0
    lease, now = int(settings.DRAIN_LEASE_SECONDS * 1000), now_ms(tags.of_project(projects[0]))
    ranges = (("-inf", now), (f"({now + lease}", "+inf"), (f"({now - _rest_ms()}", now))
    counts = redis.each([("ZCOUNT", redis_keys.pending(each), *ends) for each in projects for ends in ranges])
    due = sum(counts[::3]) + sum(counts[1::3])
    resting = sum(counts[2::3]) if due > MAX_DATASETS else 0
    return int(min(limit, due - resting))


def pending() -> dict[int, float]:
    """Return the datasets with queued records, and when each is due, in ms since the epoch."""
    found = redis.each([("ZRANGE", redis_keys.pending(each), 0, -1, "WITHSCORES") for each in _projects()])
    return {
        int(dataset_id): float(due) for flat in found for dataset_id, due in zip(flat[::2], flat[1::2], strict=True)
    }


def _projects(limit: int = 0) -> list[int]:
    """Return the projects with queued records: all of them, or about `limit`."""
    found = redis.each([("ZRANGE", _turns(tag), 0, limit - 1) for tag in tags.in_use()])
    return [int(project_id) for projects in found for project_id in projects][: limit or None]


def settle(datasets: Iterable[Dataset]) -> None:
    """End drains. If a dataset's stream is empty, it is no longer pending. If not, its next drain is due now."""
    redis.run_all(
        [
            redis.Call(
                script("end_drain"),
                [
                    redis_keys.pending(dataset.project_id),
                    redis_keys.stream(dataset.pk),
                    _turns(tags.of_project(dataset.project_id)),
                ],
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
        [
            redis.Call(
                script("lock"),
                [redis_keys.lock(lock.dataset_id), redis_keys.deaths(lock.dataset_id)],
                [lock.token, action, lease],
            )
            for lock in locks
        ]
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
