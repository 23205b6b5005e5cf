"""Isolate an entry that kills the worker process that stores it.

A defect of a library, or too little memory, may kill the process. The next drain reads the same entries, and dies, too.
So after `MAX_DEATHS` drains of a dataset in a row have died, the dataset is a suspect. Its drains then make trials:

1. A trial stores a tenth of the queued entries, or of DRAIN_MAX_RECORDS if there are more. If it succeeds, the next
   trial follows.
2. If the process dies in a trial, the next trials store a tenth of the entries of this one. In the end, a trial has one
   entry.
3. If the process dies `MAX_DEATHS` times in trials of one entry, this entry goes to quarantine, unconverted.

After all entries of the first trials (or of the trial in which a process died last) are handled, the dataset is no
longer a suspect. Other datasets are drained as usual.

`lock.lua` counts the drains that died: it adds one when a drain begins, and a drain that ends in any other way removes
the count.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings

from config.common import redis
from ingest.queue import redis_keys
from ingest.queue.stream import State

MAX_DEATHS = 3
REASON = f"the worker process died {MAX_DEATHS} times while it stored this entry alone"
_SHARE = 10  # a trial has a tenth of the entries that are under suspicion
# Fields of the hash `deaths`, beside the count that lock.lua makes.
_LEFT, _SIZE, _ALONE = "left", "size", "alone"
_TRYING, _FIRST = "trying", "first"  # of the trial in progress: how many entries, and the stream ID of the first

logger = logging.getLogger(__name__)


def suspects(dataset_ids: Iterable[int]) -> set[int]:
    """Return the datasets whose drains died again and again, and whose entries are not all tried yet."""
    ids = list(dataset_ids)
    found = redis.each([("HMGET", redis_keys.deaths(each), "deaths", _LEFT) for each in ids])
    return {
        each
        for each, (deaths, left) in zip(ids, found, strict=True)
        if int(deaths or 0) >= MAX_DEATHS or int(left or 0)
    }


@dataclass(slots=True)
class Trial:
    """An attempt to store the first entries of a suspect's stream."""

    dataset_id: int
    left: int  # entries under suspicion, with those of this trial
    size: int  # how many entries this trial stores
    deaths_alone: int  # how often the process died while it stored the first entry alone

    @property
    def refuses(self) -> bool:
        """Whether the entry goes to quarantine without a further attempt."""
        return self.size == 1 and self.deaths_alone >= MAX_DEATHS

    def succeed(self, entries: int) -> None:
        """Note that entries were stored or put into quarantine. If none are under suspicion now, forget the deaths."""
        self.left -= entries
        self.deaths_alone = 0
        if self.left <= 0:
            forget(self.dataset_id)
        else:
            redis.client().hset(redis_keys.deaths(self.dataset_id), mapping={_LEFT: self.left, _ALONE: 0})


def forget(dataset_id: int) -> None:
    """End the suspicion. The count of lock.lua stays, until the drain ends."""
    redis.client().hdel(redis_keys.deaths(dataset_id), _LEFT, _SIZE, _ALONE, _TRYING, _FIRST)


@contextmanager
def trial(dataset_id: int, state: State) -> Iterator[Trial]:
    """Begin a trial, and note it in Redis until it ends. If the process dies meanwhile, the note stays.

    Args:
        dataset_id: The suspect. The caller holds its lock.
        state: The state of its queue, which has at least one entry.
    """
    key = redis_keys.deaths(dataset_id)
    noted = redis.client().hgetall(key)
    found = _next(dataset_id, noted, state)
    what = "the next entry goes to quarantine" if found.refuses else f"the next commit has at most {found.size} of them"
    logger.warning("dataset %s: drains died with the next %s entries; %s", dataset_id, found.left, what)
    note = {
        _LEFT: found.left,
        _SIZE: found.size,
        _ALONE: found.deaths_alone,
        _TRYING: found.size,
        _FIRST: _first(state),
    }
    redis.client().hset(key, mapping=note)
    try:
        yield found
    finally:
        redis.client().hdel(key, _TRYING, _FIRST)


def _next(dataset_id: int, noted: Mapping[bytes, bytes], state: State) -> Trial:
    """Return the next trial, from what is noted about the last one."""
    left, size, alone, tried = (int(noted.get(name.encode(), 0)) for name in (_LEFT, _SIZE, _ALONE, _TRYING))
    if tried and noted.get(_FIRST.encode()) == _first(state):  # the process died before the entries were stored
        return Trial(dataset_id, tried, max(1, tried // _SHARE), alone + 1 if tried == 1 else 0)
    left -= tried  # the process died after they were handled
    if left <= 0:
        left, size = min(state.length, settings.DRAIN_MAX_RECORDS), 0  # each entry has at least one record
    # The size is missing for the first trial, or if a drain that had lost its lock has deleted it.
    size = size or max(1, left // _SHARE)
    return Trial(dataset_id, left, min(left, size), 0 if tried else alone)


def _first(state: State) -> bytes:
    """Return the stream ID of the first entry."""
    stream_id: bytes = state.first[0][0]
    return stream_id
