"""A dataset's stream: a drain reads its entries in order, and trims them after they are in the table."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from django.conf import settings

from config.common import redis
from config.common.cluster.key_tags import tagged
from datasets import tags
from ingest.queue import redis_keys
from ingest.queue.formats import Earlier, unpacked
from ingest.queue.scripts import script

# One read of the stream returns about this number of bytes. Redis serves no other client during a read.
_READ_BYTES = 1024 * 1024
_MAX_ENTRIES = 5000
# The upper limit of one read, even if all bodies are large: Redis and the worker must both hold the reply.
_MAX_BYTES = 256 * 1024 * 1024
# A position has 43 bits for milliseconds (until the year 2248) and 20 for the sequence number.
_SEQUENCE_BITS = 20
_MAX_SEQUENCE = (1 << _SEQUENCE_BITS) - 1
_MAX_MS = (1 << 43) - 1
_MAX_POSITION = _MAX_MS << _SEQUENCE_BITS | _MAX_SEQUENCE
# While Redis's clock is behind the last stream ID, Redis only raises the sequence number. If a drain finds this number
# or a higher number, it raises the stream's last ID to the next millisecond.
_HIGH_SEQUENCE = 1 << 19
_HOUR_MS = 3_600_000
# One call of trim_each.lua removes at most this number of entries. Redis serves no other client during the call.
_ENTRIES_A_CALL = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted request in the stream."""

    stream_id: str
    body: bytes
    format: bytes
    count: int
    version_id: int
    trace_id: str
    origin: str  # the stream ID before the first replay. If the entry is not a replay, it is `stream_id`
    queued_bytes: int  # the size of the body in the stream, where it may be compressed
    renumbered_from: str = ""  # its original ID, if it was renumbered because another record has that ID
    earlier: Earlier | None = None  # which records are of an earlier version. None: all records are of `version_id`

    @property
    def position(self) -> int:
        return position_of(self.stream_id)

    @property
    def ms(self) -> int:
        """When Redis put the entry into the stream, in ms since the epoch. For a replay, this is the replay's time."""
        return int(self.stream_id.partition("-")[0])

    @property
    def mark(self) -> str:
        """The trace ID. It distinguishes two entries that got the same stream ID. Empty if it is damaged."""
        return "" if "\N{REPLACEMENT CHARACTER}" in self.trace_id else self.trace_id

    @property
    def first_id(self) -> str:
        """The stream ID that the entry got when it was accepted, even if it was replayed or renumbered later."""
        return self.renumbered_from or self.origin

    @property
    def is_replay(self) -> bool:
        """Whether the entry was in quarantine before, and was put back into the queue."""
        return self.origin != self.stream_id


class AnotherGeneration(Exception):
    """Redis was wiped during the read. The entries belong to a queue that no longer exists."""


def position_of(stream_id: str) -> int:
    """Return a stream ID as one integer that fits the table: ms << 20 | seq.

    Positions keep the order of IDs. Beyond 2**20 entries in one millisecond, IDs share the last position of that
    millisecond. All IDs after the year 2248 share the highest position. So only an entry above the table's watermark is
    certainly new. The drain looks up all others.
    """
    ms, _, seq = stream_id.partition("-")
    return min(int(ms) << _SEQUENCE_BITS | min(int(seq), _MAX_SEQUENCE), _MAX_POSITION)


def last_id_of(position: int) -> str:
    """Return the highest stream ID that has this position, as the end of a range for Redis."""
    ms, seq = position >> _SEQUENCE_BITS, position & _MAX_SEQUENCE
    if seq < _MAX_SEQUENCE:
        return f"{ms}-{seq}"
    return f"{ms}" if ms < _MAX_MS else "+"


class State(NamedTuple):
    """The state of a dataset's queue. A drain reads it first."""

    generation: str | None  # None before the first acceptance
    length: int  # the number of entries in the stream, including entries that are stored already
    trimmed: int  # the table's watermark at the last trim; 0 before the first trim
    queued_bytes: int
    first: list[Any]  # the first entry as Redis returns it; empty if there is none


def state(dataset_id: int) -> State:
    """Return the state of a dataset's queue at one moment."""
    return states([dataset_id])[dataset_id]


def states(dataset_ids: Sequence[int]) -> dict[int, State]:
    """Return the states of several datasets' queues. States of datasets with the same tag are from one moment."""
    found: dict[int, State] = {}
    for tag, ids in tags.by_tag(dataset_ids).items():
        found |= _states(tag, ids)
    return found


def _states(tag: int, dataset_ids: Sequence[int]) -> dict[int, State]:
    generation_key = tagged(redis_keys.GENERATION, tag)
    with redis.pipeline(generation_key, transaction=True) as look:
        look.get(generation_key)
        for dataset_id in dataset_ids:
            look.xlen(redis_keys.stream(dataset_id))
            look.get(redis_keys.trimmed(dataset_id))
            look.get(redis_keys.queued_bytes(dataset_id))
            look.xrange(redis_keys.stream(dataset_id), count=1)
        in_generation, *replies = look.execute()
    generation = in_generation and in_generation.decode()
    found = zip(replies[::4], replies[1::4], replies[2::4], replies[3::4], strict=True)
    return {
        dataset_id: State(generation, length, int(trimmed or 0), int(queued or 0), first)
        for dataset_id, (length, trimmed, queued, first) in zip(dataset_ids, found, strict=True)
    }


def read(dataset_id: int, in_generation: str, seen: State | None = None) -> Iterator[Entry]:
    """Yield the first entries of a stream in order, as many as one commit takes.

    Args:
        dataset_id: The dataset of the stream.
        in_generation: The generation of the queue.
        seen: The state of the queue, if the caller knows it. The first entry is not read again.

    Raises:
        AnotherGeneration: Redis was wiped in the meantime.
    """
    records = size = 0
    seen = seen or state(dataset_id)
    now_generation, found, queued, most = seen.generation, seen.first, seen.queued_bytes, 1
    while True:
        if now_generation != in_generation:
            raise AnotherGeneration
        for raw_id, fields in found:
            entry = _entry(raw_id.decode(), fields)
            records += entry.count
            size += len(entry.body)
            yield entry
            if _is_enough(records, size):
                return
        if len(found) < most or seen.length == 1:
            return
        most = _next_page(found, queued, most)
        now_generation, found, queued = _page(dataset_id, found[-1][0].decode(), most)


def _page(dataset_id: int, last: str, most: int) -> tuple[str | None, list[Any], int]:
    """Return the generation, at most `most` entries after `last`, and the queued bytes, all from one moment."""
    generation_key = tagged(redis_keys.GENERATION, tags.of_dataset(dataset_id))
    with redis.pipeline(generation_key, transaction=True) as both:
        both.get(generation_key)
        both.xrange(redis_keys.stream(dataset_id), f"({last}", "+", count=most)
        both.get(redis_keys.queued_bytes(dataset_id))
        generation, found, queued = both.execute()
    return generation and generation.decode(), found, int(queued or 0)


def _next_page(found: Sequence[Any], queued: int, most: int) -> int:
    """Return how many entries to read next, after a page of at most `most` entries.

    The next bodies may be larger than those of this page. If all queued bytes fit into one reply, their size does not
    matter.
    """
    if queued <= _READ_BYTES:
        return _MAX_ENTRIES
    mean = sum(len(fields.get(b"b", b"")) + 100 for _, fields in found) // len(found)
    largest = settings.MAX_BODY_BYTES if queued > _MAX_BYTES else 1
    return max(1, min(_MAX_ENTRIES, most * 10, _READ_BYTES // mean, _MAX_BYTES // largest))


def require_replicas(last_ids: Mapping[int, str]) -> None:
    """Check that enough replicas have the entries of streams up to `last_ids`. See REDIS_WAIT_REPLICAS.

    If a drain stored entries that the replicas do not have, a failover could forget their Idempotency-Keys. Then a
    repeated request would be stored twice.

    Raises:
        TooFewReplicas: Too few replicas have the entries, or a failover has lost some.
    """
    if not settings.REDIS_WAIT_REPLICAS or not last_ids:
        return
    for tag, dataset_ids in tags.by_tag(last_ids).items():
        look = redis.pipeline(tagged(redis_keys.GENERATION, tag), transaction=False)
        for dataset_id in dataset_ids:
            look.xrange(redis_keys.stream(dataset_id), last_ids[dataset_id], last_ids[dataset_id])
        if not all(redis.require_replicas(look, tag=tag)):
            raise redis.TooFewReplicas


def is_full(entries: Sequence[Entry]) -> bool:
    """Return whether these entries are as many as one commit takes. If so, the stream may have more of them."""
    return _is_enough(sum(entry.count for entry in entries), sum(len(entry.body) for entry in entries))


def _is_enough(records: int, size: int) -> bool:
    return records >= settings.DRAIN_MAX_RECORDS or size >= settings.DRAIN_MAX_BYTES


def _entry(stream_id: str, fields: dict[bytes, bytes]) -> Entry:
    queued = fields.get(b"b", b"")
    return Entry(
        stream_id=stream_id,
        body=unpacked(queued),
        format=fields.get(b"f", b""),
        count=int(fields.get(b"n", b"0")),
        version_id=int(fields.get(b"v", b"0")),
        trace_id=fields.get(b"t", b"").decode(errors="replace"),
        origin=fields.get(b"o", stream_id.encode()).decode(),
        queued_bytes=len(queued),
        renumbered_from=fields.get(b"r", b"").decode(),
        earlier=Earlier.read(fields[b"e"].decode(errors="replace")) if b"e" in fields else None,
    )


class Trim(NamedTuple):
    """Entries to remove from a dataset's stream: they are all in the table or in quarantine."""

    dataset_id: int
    generation: str  # the generation in which the entries were read
    entries: Sequence[Entry]  # the first entries of the stream, in order
    before: int  # the table's watermark without these entries. Redis changes `trimmed` only if it has this value
    reached: int  # the table's watermark with these entries


def trim(trims: Sequence[Trim]) -> int:
    """Remove entries from streams. Return how many of them were still there."""
    trims = [each for each in trims if each.entries]
    removed: list[int] = redis.run_all([_trim_call(each) for each in trims])
    return sum(count if count >= 0 else _trim_each(each) for each, count in zip(trims, removed, strict=True))


def _trim_keys(dataset_id: int) -> list[redis.Argument]:
    tag = tags.of_dataset(dataset_id)
    return [
        tagged(redis_keys.GENERATION, tag),
        redis_keys.stream(dataset_id),
        redis_keys.queued(dataset_id),
        redis_keys.queued_bytes(dataset_id),
        tagged(redis_keys.TOTAL_BYTES, tag),
        redis_keys.stored_by_hour(dataset_id),
        redis_keys.trimmed(dataset_id),
    ]


def _trim_call(each: Trim) -> redis.Call:
    entries = each.entries
    hours: Counter[int] = Counter()
    for entry in entries:
        if not entry.is_replay:  # the records of a replay were counted when they went to quarantine
            hours[entry.ms // _HOUR_MS] += entry.count
    records, size = sum(entry.count for entry in entries), sum(entry.queued_bytes for entry in entries)
    first, last = entries[0], entries[-1]
    ends = [first.stream_id, first.mark, last.stream_id, last.mark]
    totals = [len(entries), records, size, each.before, each.reached]
    args: list[redis.Argument] = [each.generation, *ends, *totals, *chain.from_iterable(hours.items())]
    return redis.Call(script("trim"), _trim_keys(each.dataset_id), args)


def _trim_each(each: Trim) -> int:
    """Remove entries from a stream that may begin with other entries. Return how many were removed."""
    names = [(entry.stream_id, entry.mark) for entry in each.entries]
    removed = 0
    for at in range(0, len(names), _ENTRIES_A_CALL):
        args = [each.generation, *chain.from_iterable(names[at : at + _ENTRIES_A_CALL])]
        removed += script("trim_each")(keys=_trim_keys(each.dataset_id), args=args)
    return removed


def keep_ahead(dataset_id: int, in_generation: str, position: int, last: Entry) -> None:
    """Raise the stream's last ID, so that the next entry gets a position above the table's watermark.

    Redis takes the next ID from its clock. After a failover, or after the clock was set back, the clock may be behind.
    Also raise the ID to the next millisecond long before the sequence numbers of the present millisecond are used up.

    Args:
        dataset_id: The dataset of the stream.
        in_generation: The generation in which the entries were read.
        position: The table's watermark.
        last: The last entry that was read.
    """
    floor = max(position, last.position)
    if floor & _MAX_SEQUENCE >= _HIGH_SEQUENCE and floor >> _SEQUENCE_BITS < _MAX_MS:
        floor = ((floor >> _SEQUENCE_BITS) + 1) << _SEQUENCE_BITS
    if floor > last.position:
        script("keep_ahead")(
            keys=_stream_keys(dataset_id), args=[in_generation, floor >> _SEQUENCE_BITS, floor & _MAX_SEQUENCE]
        )


def _stream_keys(dataset_id: int) -> list[redis.Argument]:
    return [tagged(redis_keys.GENERATION, tags.of_dataset(dataset_id)), redis_keys.stream(dataset_id)]


def renumber(dataset_id: int, in_generation: str, entry: Entry) -> None:
    """Move an entry to the end of the stream. It gets a new ID that no other record has, and keeps its `first_id`."""
    script("renumber")(keys=_stream_keys(dataset_id), args=[in_generation, entry.stream_id, entry.mark])


def holds(dataset_id: int, stream_id: str) -> bool:
    """Return whether an entry is still in the stream."""
    return bool(redis.client().xrange(redis_keys.stream(dataset_id), stream_id, stream_id))
