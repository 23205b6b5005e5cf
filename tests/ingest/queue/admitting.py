"""Run `admit.lua` with an example of its keys and arguments."""

from typing import Any

from config.common import redis
from ingest.queue.scripts import script
from tests.support.servers.outages import everything_in

KEYS = {
    "revision": "revision",
    "limit": "limit",
    "total": "total",
    "delta": "delta",
    "generation": "generation",
    "dataset_accepted": "dataset_accepted",
    "dataset_queued": "dataset_queued",
    "dataset_bytes": "bytes:13",
    "bytes": "bytes",
    "accepted": "accepted",
    "stream": "stream",
    "pending": "pending",
    "dirty": "dirty",
    "last_used": "last_used",
    "slots": "slots",
    "room": "queue:room",
    "turns": "turns",
    "slot": "slot",
}
ARGS = {
    "revision": "r1",
    "number": 1,
    "deadline": 2**53,
    "count": 2,
    "dataset": 13,
    "dirty": "7:2026-11",
    "version": 5,
    "format": "a",
    "trace": "req_123",
    "body": "[{},{}]",
    "dataset_bytes": 100,
    "total_bytes": 200,
    "key": 3,
    "project": 4,
    "share": 1,
    "generation": "feedf00d",
}
OF_IDEMPOTENCY = {"digest": "digest-1", "remember": 86400, "max_keys": 3, "rejected": ""}


# For records of the previous schema version: the end of the grace period, the API key, the number of records, their
# marks, and the seconds for which the counts are kept.
GRACE = (2**53, 3, 1, "4 01", 3600)


def admit(
    idempotency: str | None = None,
    slot: str = "slot",
    grace: tuple[Any, ...] = (),
    rate: tuple[int, int] | None = None,
    **changes: Any,
) -> list[Any]:
    """Run the script with the example's arguments and these changes. Return its reply as text and numbers.

    `rate` is the number of records that the rate limit allows, and the seconds in which it allows them.
    """
    assert changes.keys() <= ARGS.keys() | OF_IDEMPOTENCY.keys()
    keys, args = [*{**KEYS, "slot": slot}.values()], [changes.get(name, value) for name, value in ARGS.items()]
    parts = f"{'i' if idempotency else ''}{'g' if grace else ''}{'r' if rate else ''}"
    args += [parts] if parts else []
    if idempotency:
        keys += [idempotency, "known_keys"]
        args += [changes.get(name, value) for name, value in OF_IDEMPOTENCY.items()]
    keys += [*(["grace"] if grace else []), *(["rate"] if rate else [])]
    reply = script("admit")(keys=keys, args=[*args, *grace, *(rate or ())])
    return [value.decode() if isinstance(value, bytes) else value for value in reply]


def set_up(**changes: Any) -> None:
    """Make a project at revision r1 whose owner has used 10 of 1000 records."""
    values = {"revision": "r1", "limit": 1000, "total": 10, "generation": "feedf00d", **changes}
    redis.client().mset({name: value for name, value in values.items() if value is not None})


def state() -> dict[bytes, bytes]:
    return everything_in(redis.client())


def entries() -> list[tuple[str, dict[bytes, bytes]]]:
    return [(stream_id.decode(), fields) for stream_id, fields in redis.client().xrange("stream")]
