"""Copy keys from one server to the cluster of REDIS_URL.

Each type of value has its own commands to read and write. DUMP and RESTORE would not work between Redis and Valkey,
because their formats differ. They would also not work for a stream of more than 512 MB.

A copied key gets the time to live that its original still has. So the clocks of the servers may differ.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from config.common import redis
from ingest.moving.names import Names
from ingest.queue import redis_keys

Command = Sequence[redis.Argument]
# The arguments that add a member to a key: a value, or a field and a value, or a score and a value.
Member = tuple[bytes, ...]

_KEYS_AT_ONCE = 1000
_MEMBERS_AT_ONCE = 1000
# One read of a stream gets about this number of bytes, and at most this number of entries.
_STREAM_BYTES = 1024 * 1024
_STREAM_ENTRIES = 1000

_READ: dict[bytes, Command] = {
    b"string": ("GET",),
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
    b"list": ("LRANGE", 0, -1),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
}
_ADD = {b"hash": "HSET", b"set": "SADD", b"list": "RPUSH", b"zset": "ZADD"}


@dataclass(slots=True)
class Copied:
    """Counts of what the copy has found on the old server so far."""

    keys: int = 0
    requests: int = 0  # requests in the queue
    idempotency_keys: int = 0
    idempotency_ms: int = 0  # the longest time to live of an Idempotency-Key
    foreign: int = 0  # keys that the service does not know
    example: bytes = b""  # one of the foreign keys


class Key(NamedTuple):
    """A key of the old server."""

    name: bytes
    kind: bytes
    life_ms: int  # the time to live; negative if the key does not expire


def copy_keys(old: Any, names: Names, note: Callable[[Copied], None]) -> Copied:
    """Copy all keys. Split each key whose members belong to several users.

    If a key exists in the cluster, it is written again. So a repetition gives the same result.

    Args:
        old: A client of the old server.
        names: The names of the keys.
        note: Called after each batch of keys, with the numbers so far.
    """
    copied = Copied()
    for batch in _batches(old):
        foreign = [name for name in batch if not names.is_ours(name)]
        copied.keys += len(batch) - len(foreign)
        copied.foreign += len(foreign)
        copied.example = foreign[0] if foreign else copied.example
        keys = _keys(old, [name for name in batch if names.in_cluster(name) or names.for_members(name)])
        for key in keys:
            if key.kind == b"stream":
                copied.requests += _copy_stream(old, key.name, names.in_cluster(key.name))
            elif key.name.startswith(redis_keys.IDEMPOTENCY.encode()):
                copied.idempotency_keys += 1
                copied.idempotency_ms = max(copied.idempotency_ms, key.life_ms)
        others = [key for key in keys if key.kind in _READ]
        values = _pipelined(old, [(_READ[key.kind][0], key.name, *_READ[key.kind][1:]) for key in others])
        redis.each([*chain.from_iterable(map(_written, [names] * len(others), others, values))])
        note(copied)
    return copied


def _batches(old: Any) -> Iterator[list[bytes]]:
    """Yield all names of keys of the old server. A name may come twice."""
    cursor = None
    while cursor != 0:
        cursor, found = old.scan(cursor or 0, count=_KEYS_AT_ONCE)
        yield found


def _keys(old: Any, names: list[bytes]) -> list[Key]:
    replies = _pipelined(old, [(command, name) for name in names for command in ("TYPE", "PTTL")])
    return [Key(*found) for found in zip(names, replies[::2], replies[1::2], strict=True)]


def _pipelined(old: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands to the old server in one round trip. Return the replies."""
    with old.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = pipe.execute()
    return replies


def _written(names: Names, key: Key, value: Any) -> Iterator[Command]:
    """Yield the commands that write a value to the cluster."""
    life: Command = ("PX", key.life_ms) if key.life_ms >= 0 else ()
    whole, name_for = names.in_cluster(key.name), names.for_members(key.name)
    if key.kind == b"string":
        if whole and value is not None:
            yield ("SET", whole, value, *life)
        return
    parts: defaultdict[bytes, list[Member]] = defaultdict(list)
    for member in _members(key.kind, value):
        name = whole or (name_for and name_for(member[0] if key.kind == b"hash" else member[-1]))
        if name:
            parts[name].append(member)
    for name, members in parts.items():
        yield ("DEL", name)
        for at in range(0, len(members), _MEMBERS_AT_ONCE):
            yield (_ADD[key.kind], name, *chain.from_iterable(members[at : at + _MEMBERS_AT_ONCE]))
        if key.life_ms >= 0:
            yield ("PEXPIRE", name, key.life_ms)


def _members(kind: bytes, value: Any) -> list[Member]:
    if kind == b"hash":
        return list(value.items())
    if kind == b"zset":
        return list(zip(value[1::2], value[::2], strict=True))
    return [(each,) for each in value]


def _copy_stream(old: Any, key: bytes, name: bytes | None) -> int:
    """Copy a stream: its entries with their IDs, and its last ID. Return the number of entries."""
    if name is None:
        return 0
    client, copied, last, most = redis.client(), 0, "-", 1
    client.delete(name)
    while found := old.xrange(key, last, "+", count=most):
        redis.each([("XADD", name, entry_id, *chain.from_iterable(fields.items())) for entry_id, fields in found])
        copied += len(found)
        last = f"({found[-1][0].decode()}"
        mean = sum(sum(map(len, fields.values())) + 100 for _, fields in found) // len(found)
        most = max(1, min(_STREAM_ENTRIES, most * 10, _STREAM_BYTES // mean))
    last_id = old.xinfo_stream(key)["last-generated-id"]
    if not copied:  # Redis creates a stream only with an entry
        redis.each([("XADD", name, last_id, "b", ""), ("XTRIM", name, "MAXLEN", 0)])
    else:
        redis.each([("XSETID", name, last_id)])
    return copied
