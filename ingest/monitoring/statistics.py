"""Count records and refused requests by the hour, for the charts of the admin.

Counting needs no extra step: a drain counts records when it trims them, and a web process counts a refusal when it
answers. Records that are still queued count for the current hour.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from config.common import clock, redis
from datasets import tags
from datasets.models import Dataset, Project
from ingest.queue import redis_keys, turns

KEPT_HOURS = 32 * 24
_ITERATOR_ROWS = 1000


@dataclass(slots=True)
class Backlog:
    """What the queue holds: records, bytes of request bodies, and the age of the oldest entry in seconds."""

    records: int = 0
    bytes: int = 0
    age: float = 0.0


@dataclass(slots=True)
class Traffic:
    """The records of one or more datasets, by hour since the epoch, and their backlog."""

    by_hour: Counter[int] = field(default_factory=Counter)
    backlog: Backlog = field(default_factory=Backlog)

    def since(self, hour: int) -> int:
        """Return how many records were accepted since the beginning of an hour."""
        return sum(count for each, count in self.by_hour.items() if each >= hour)


def this_hour() -> int:
    """Return the current hour, as hours since the epoch."""
    return int(clock.seconds() // 3600)


def traffic(dataset_ids: Sequence[int]) -> dict[int, Traffic]:
    """Return the traffic of each dataset. The number of round trips does not depend on the number of datasets."""
    found = {dataset_id: Traffic() for dataset_id in dataset_ids}
    commands: list[tuple[redis.Argument, ...]] = []
    for dataset_id in found:
        commands.append(("HGETALL", redis_keys.stored_by_hour(dataset_id)))
        commands.append(("MGET", redis_keys.queued(dataset_id), redis_keys.queued_bytes(dataset_id)))
    replies = redis.each(commands)
    for each, hours, (queued, size) in zip(found.values(), replies[::2], replies[1::2], strict=True):
        each.by_hour.update({int(hour): int(count) for hour, count in hours.items()})
        each.backlog = Backlog(int(queued or 0), int(size or 0))
        if each.backlog.records:
            each.by_hour[this_hour()] += each.backlog.records
    waiting = [dataset_id for dataset_id, each in found.items() if each.backlog.records]
    for dataset_id, age in zip(waiting, _ages(waiting), strict=True):
        found[dataset_id].backlog.age = age
    return found


def total(parts: Iterable[Traffic]) -> Traffic:
    """Return the sum of the traffic of several datasets. The age in the sum is the age of their oldest entry."""
    result = Traffic()
    for part in parts:
        result.by_hour.update(part.by_hour)
        result.backlog.records += part.backlog.records
        result.backlog.bytes += part.backlog.bytes
        result.backlog.age = max(result.backlog.age, part.backlog.age)
    return result


def _ages(dataset_ids: Sequence[int]) -> list[float]:
    """Return the age of the oldest entry of each stream, in seconds."""
    heads = redis.each([("XRANGE", redis_keys.stream(each), "-", "+", "COUNT", 1) for each in dataset_ids])
    clocks = {tag: turns.now_ms(tag) for tag in tags.by_tag(dataset_ids)}  # these clocks also made the stream IDs
    return [
        max(0.0, clocks[tags.of_dataset(dataset_id)] - int(head[0][0].partition(b"-")[0])) / 1000 if head else 0.0
        for dataset_id, head in zip(dataset_ids, heads, strict=True)
    ]


def refused(project_ids: Sequence[int]) -> Counter[tuple[int, str]]:
    """Return the number of refused requests, by hour since the epoch and error code."""
    counts: Counter[tuple[int, str]] = Counter()
    for reply in redis.each([("HGETALL", redis_keys.refused_by_hour(project_id)) for project_id in project_ids]):
        for place, count in reply.items():
            hour, _, code = place.decode().partition(":")
            counts[int(hour), code] += int(count)
    return counts


def forget_old() -> None:
    """Delete the counts of hours that the charts no longer show."""
    datasets = Dataset.objects.values_list("pk", flat=True).iterator(_ITERATOR_ROWS)
    projects = Project.objects.values_list("pk", flat=True).iterator(_ITERATOR_ROWS)
    oldest, client = this_hour() - KEPT_HOURS, redis.client()
    for key in (*map(redis_keys.stored_by_hour, datasets), *map(redis_keys.refused_by_hour, projects)):
        old = [place for place in client.hkeys(key) if int(place.partition(b":")[0]) < oldest]
        if old:
            client.hdel(key, *old)
