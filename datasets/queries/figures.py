"""Figures of queries, in Redis: totals for the metrics, and the latest slow queries of each project for the admin.

Redis keys
    queries               hash: `count`, `microseconds` and `refused:<code>`, for all projects together
    slow_queries:<id>     list: the latest slow queries of a project as MessagePack, newest first
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

import msgspec
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

from config.common import clock, redis
from config.common.errors import InternalError

logger = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
_ALL = "queries"
_KEPT = 10
_KEPT_SECONDS = 7 * 24 * 3600


class EndedQuery(msgspec.Struct, frozen=True):
    """A query that has ended.

    Attributes:
        at: The time when it ended, in milliseconds since the epoch.
        dataset_id: The dataset.
        seconds: How long the client waited.
        who: The user and the token.
        code: The code of the error that ended it. Empty if it had a result.
    """

    at: int
    dataset_id: int
    seconds: float
    who: str
    code: str = ""

    @property
    def ended(self) -> datetime:
        """Return the time when it ended."""
        return datetime.fromtimestamp(self.at / 1000, UTC)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(EndedQuery).decode


def _slow(project_id: int) -> str:
    return f"slow_queries:{project_id}"


def note(project_id: int, query: EndedQuery) -> None:
    """Count a query, and keep it if it was slow. Do nothing if Redis does not answer."""
    try:
        commands: list[tuple[redis.Argument, ...]] = [
            ("HINCRBY", _ALL, f"refused:{query.code}" if query.code else "count", 1),
            ("HINCRBY", _ALL, "microseconds", int(query.seconds * 1e6)),
        ]
        if query.seconds > SLOW_SECONDS:
            key = _slow(project_id)
            commands += [("LPUSH", key, _pack(query)), ("LTRIM", key, 0, _KEPT - 1), ("EXPIRE", key, _KEPT_SECONDS)]
        redis.each(commands)
    except (RedisError, ConnectionInterrupted, OSError) as failure:
        logger.debug("a query was not counted: %s", failure)


@contextmanager
def noted(project_id: int, dataset_id: int, who: str) -> Iterator[None]:
    """Count the block as a query, with the time that it takes and the code of the error that it raises."""
    began, code = monotonic(), ""
    try:
        yield
    except Exception as failure:
        code = getattr(failure, "code", InternalError.code)
        raise
    finally:
        note(project_id, EndedQuery(clock.milliseconds(), dataset_id, monotonic() - began, who, code))


@dataclass(slots=True)
class Totals:
    """The queries of all projects since Redis was set up."""

    count: int = 0
    seconds: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)  # by error code


def totals() -> Totals:
    """Return the totals. Raises RedisError."""
    found = {name.decode(): int(value) for name, value in redis.client().hgetall(_ALL).items()}
    refused = {name.partition(":")[2]: value for name, value in found.items() if name.startswith("refused:")}
    return Totals(found.get("count", 0), found.get("microseconds", 0) / 1e6, refused)


def slow(project_ids: Sequence[int]) -> dict[int, list[EndedQuery]]:
    """Return the slow queries of the last week by project, newest first. Raises RedisError."""
    found = redis.each([("LRANGE", _slow(project_id), 0, -1) for project_id in project_ids])
    oldest = clock.milliseconds() - _KEPT_SECONDS * 1000
    return {
        project_id: [each for each in map(_unpack, packed) if each.at > oldest]
        for project_id, packed in zip(project_ids, found, strict=True)
    }
