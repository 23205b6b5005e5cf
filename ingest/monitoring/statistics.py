"""How many records came in, hour by hour, and what was refused: for people to look at.

Counted in passing, in steps that are made anyway: records where a drain removes them from the queue, refusals where
they are answered. What is still queued counts for the present hour.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from config.common import clock, redis
from datasets.models import Dataset, Project
from ingest.queue import redis_keys

KEPT_HOURS = 32 * 24
_AT_ONCE = 1000


@dataclass(slots=True)
class Backlog:
    """What waits in the queue: records, bytes of bodies, and how long the oldest has waited, in seconds."""

    records: int = 0
    bytes: int = 0
    age: float = 0.0


@dataclass(slots=True)
class Traffic:
    """Of some datasets together: records by hour since the epoch, and what waits."""

    by_hour: Counter[int] = field(default_factory=Counter)
    backlog: Backlog = field(default_factory=Backlog)

    def since(self, hour: int) -> int:
        """Records that came in since the beginning of an hour."""
        return sum(count for each, count in self.by_hour.items() if each >= hour)


def this_hour() -> int:
    """Hours since the epoch."""
    return int(clock.seconds() // 3600)


def traffic(dataset_ids: Sequence[int]) -> dict[int, Traffic]:
    """What came in for each dataset, and what waits; two looks at Redis, however many they are."""
    found = {dataset_id: Traffic() for dataset_id in dataset_ids}
    with redis.client().pipeline(transaction=False) as pipe:
        for dataset_id in found:
            pipe.hgetall(redis_keys.stored_by_hour(dataset_id))
            pipe.mget(redis_keys.queued(dataset_id), redis_keys.queued_bytes(dataset_id))
        replies = pipe.execute()
    for each, hours, (queued, size) in zip(found.values(), replies[::2], replies[1::2], strict=True):
        each.by_hour.update({int(hour): int(count) for hour, count in hours.items()})
        each.backlog = Backlog(int(queued or 0), int(size or 0))
        if each.backlog.records:
            each.by_hour[this_hour()] += each.backlog.records
    waiting = [dataset_id for dataset_id, each in found.items() if each.backlog.records]
    for dataset_id, age in zip(waiting, _ages(waiting), strict=True):
        found[dataset_id].backlog.age = age
    return found


def together(parts: Iterable[Traffic]) -> Traffic:
    """The sum; the age is the oldest's."""
    total = Traffic()
    for part in parts:
        total.by_hour.update(part.by_hour)
        total.backlog.records += part.backlog.records
        total.backlog.bytes += part.backlog.bytes
        total.backlog.age = max(total.backlog.age, part.backlog.age)
    return total


def _ages(dataset_ids: Sequence[int]) -> list[float]:
    with redis.client().pipeline(transaction=False) as pipe:
        for dataset_id in dataset_ids:
            pipe.xrange(redis_keys.stream(dataset_id), "-", "+", count=1)
        pipe.time()
        *heads, (seconds, microseconds) = pipe.execute()
    now = seconds + microseconds / 1e6  # by the clock that the entries' ids were made with
    return [max(0.0, now - int(head[0][0].partition(b"-")[0]) / 1000) if head else 0.0 for head in heads]


def refused(project_ids: Sequence[int]) -> Counter[tuple[int, str]]:
    """Requests refused, by hour since the epoch and error code."""
    counts: Counter[tuple[int, str]] = Counter()
    with redis.client().pipeline(transaction=False) as pipe:
        for project_id in project_ids:
            pipe.hgetall(redis_keys.refused_by_hour(project_id))
        for reply in pipe.execute():
            for place, count in reply.items():
                hour, _, code = place.decode().partition(":")
                counts[int(hour), code] += int(count)
    return counts


def forget_old() -> None:
    """Drop what is older than the charts go."""
    datasets = Dataset.objects.values_list("pk", flat=True).iterator(_AT_ONCE)
    projects = Project.objects.values_list("pk", flat=True).iterator(_AT_ONCE)
    oldest, client = this_hour() - KEPT_HOURS, redis.client()
    for key in (*map(redis_keys.stored_by_hour, datasets), *map(redis_keys.refused_by_hour, projects)):
        old = [place for place in client.hkeys(key) if int(place.partition(b":")[0]) < oldest]
        if old:
            client.hdel(key, *old)
