"""Count and log refused requests, and keep the latest refusals of each project for the admin.

A client with a valid key may be refused thousands of times a second. So everything is limited: entries per project,
bytes per entry, projects with a log, and writes per second. If the key cannot be read, the project is unknown: the
refusal is then only counted and logged.
"""

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings
from msgspec import Struct
from redis.exceptions import RedisError

from config.common import clock, pipelined, redis
from config.common.cluster.key_tags import tagged
from config.common.text import counted
from datasets import tags
from ingest.queue import redis_keys
from ingest.queue.scripts import script

logger = logging.getLogger(__name__)

_refuse = script("refuse")

# Refused records of lenient batches are counted under this code, next to the error codes of requests.
REJECTED_RECORDS = "rejected_records"

# A refusal log keeps this number of bytes of each body.
MAX_KEPT_BYTES = 2048
_MAX_TEXT = 200  # a log keeps at most this number of characters of an error, a detail, a path or a field's name
_MAX_LOGS = 200
_KEPT_SECONDS = 7 * 24 * 3600

# `_SECRET_VALUE` matches a text, array or object whose name suggests a secret, even if the body was cut inside it. It
# ends at the first closing bracket. It matches no numbers, because `tokens` may be a count.
# `_TOKEN` matches tokens anywhere.
_SECRET_NAME = rb"(?:pass(?:word|wd|phrase)|secret|token|authorization|api_?key|cookie|credential)"
_TEXTS = rb'(?:"(?:[^"\\]|\\.)*"?|\[[^\]]*\]?|\{[^}]*\}?)'
_SECRET_VALUE = re.compile(
    rb'("[^"\\]{0,100}' + _SECRET_NAME + rb'[^"\\]{0,100}"\s*:\s*)' + _TEXTS, re.IGNORECASE | re.DOTALL
)
_TOKEN = re.compile(rb"\b(?:eyJ[\w-]{8,}(?:\.[\w-]*){0,2}|pat_[\w-]{8,})")


class Refusal(Struct, frozen=True, omit_defaults=True):
    """One refused request, or one refused record of a lenient batch."""

    id: str
    at: int  # ms since the epoch
    trace_id: str
    token_id: str  # the `token_id` of the API key
    path: str
    status: int
    code: str
    error: str
    dataset_id: int = 0
    field: str = ""
    detail: str = ""
    index: int = -1
    form: str = ""  # how the Try it page sends the body: a name of `tryout.FORMS`
    body: bytes = b""
    is_cut: bool = False
    skipped: int = 0  # how many refusals of the project were not kept since the previous entry

    @property
    def time(self) -> datetime:
        """The time when the request was refused, in UTC."""
        return datetime.fromtimestamp(self.at / 1000, UTC)

    @property
    def text(self) -> str:
        """The body as text, for the admin."""
        return self.body.decode(errors="replace")


class Sent(Struct, frozen=True):
    """A refused request: who sent it, to which path, and the part of its body that was refused."""

    trace_id: str
    token_id: str
    path: str
    dataset_id: int
    body: bytes
    form: str


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Refusal).decode


class _Allowance:
    """A rate limit: `per_second` on average, and up to `burst` after a pause."""

    def __init__(self, per_second: float, burst: int) -> None:
        self.per_second, self.burst = per_second, burst
        self.left, self.at = float(burst), time.monotonic()
        self.skipped = 0

    def take(self, wanted: int) -> int:
        """Return how many of `wanted` events are allowed now, and count them as used. Add the others to `skipped`."""
        moment = time.monotonic()
        self.left = min(self.burst, self.left + (moment - self.at) * self.per_second)
        self.at = moment
        granted = min(wanted, int(self.left))
        self.left -= granted
        self.skipped += wanted - granted
        return granted


_lock = threading.Lock()
_lines = _Allowance(200, 1000)
_all_entries = _Allowance(50, 200)
_entries: dict[int, _Allowance] = {}  # by project
_MAX_ALLOWANCES = 10_000


def forget_allowances() -> None:
    """Reset the rate limits. Tests call this."""
    for allowance in (_lines, _all_entries):
        allowance.left, allowance.skipped = allowance.burst, 0
    _entries.clear()


async def note(code: str) -> None:
    """Count a refused request of an unknown project.

    Like `keep`, this may fail without an error: a client gets its answer even if its refusal cannot be counted.
    """
    try:
        await pipelined.execute("HINCRBY", redis_keys.REFUSED, code, 1, timeout=0)
    except (redis.RedisUnavailable, RedisError) as failure:
        logger.debug("a refusal was not counted: %s", failure)


def log(status: int, code: str, *, trace_id: str, project_id: int | None, dataset_id: int) -> None:
    """Write a line to the log. If there are too many lines, leave out some. The next line then says how many."""
    project, dataset = project_id or "unknown", dataset_id or "none"
    _log("refused: %s %s, project %s, dataset %s, trace ID %s", status, code, project, dataset, trace_id)


def _log(text: str, *args: object) -> None:
    with _lock:
        if not _lines.take(1):
            return
        skipped, _lines.skipped = _lines.skipped, 0
    logger.info(text + (f"; {skipped} refusals before it are not logged" if skipped else ""), *args)


async def keep(project_id: int, said: dict[str, Any], status: int, sent: Callable[[], Sent]) -> None:
    """Count a refused request of a project, and keep it in the project's log if the rate limit allows it.

    Args:
        project_id: The project of the request's API key.
        said: The JSON body of the answer.
        status: The HTTP status of the answer.
        sent: Returns the request. It is only called if the request is kept.
    """
    await _write(project_id, said["code"], 1, [said], status, lambda _: sent())


async def keep_records(project_id: int, count: int, first: Sequence[tuple[dict[str, Any], bytes]], sent: Sent) -> None:
    """Count the refused records of a lenient batch, and keep the first of them.

    Args:
        project_id: The project of the request's API key.
        count: How many records were refused.
        first: The problem and the text of each of the first refused records.
        sent: The request.
    """

    def one(at: int) -> Sent:
        return msgspec.structs.replace(sent, body=first[at][1], form="single")

    place = (counted(count), project_id, sent.dataset_id, sent.trace_id)
    _log("refused: %s of a lenient batch, project %s, dataset %s, trace ID %s", *place)
    await _write(project_id, REJECTED_RECORDS, count, [said for said, _ in first], 202, one)


async def _write(
    project_id: int, code: str, count: int, said: Sequence[dict[str, Any]], status: int, sent: Callable[[int], Sent]
) -> None:
    tag = tags.of_project(project_id)
    keys: list[redis.Argument] = [tagged(redis_keys.REFUSED, tag), redis_keys.refused_by_hour(project_id)]
    args: list[redis.Argument] = [code, f"{int(clock.seconds() // 3600)}:{code}", count]
    granted, skipped = _allowed(project_id, len(said)) if settings.REFUSAL_LOG_ENTRIES else (0, 0)
    if granted:
        entries = [_entry(answer, status, sent(at)) for at, answer in enumerate(said[:granted])]
        entries[0] = msgspec.structs.replace(entries[0], skipped=skipped)
        keys += (redis_keys.refusal_log(project_id), tagged(redis_keys.REFUSAL_LOGS, tag))
        args += (project_id, clock.milliseconds(), settings.REFUSAL_LOG_ENTRIES, _KEPT_SECONDS, _MAX_LOGS)
        args += (tagged(redis_keys.REFUSAL_LOG_PREFIX, tag), *map(_pack, entries))
    try:
        await pipelined.run(_refuse, keys, args, timeout=0)
    except (redis.RedisUnavailable, RedisError) as failure:
        logger.debug("a refusal was not counted: %s", failure)


def _allowed(project_id: int, wanted: int) -> tuple[int, int]:
    """Return how many entries a project may write now, and how many were skipped since its last entry."""
    with _lock:
        if len(_entries) > _MAX_ALLOWANCES:
            _entries.clear()
        own = _entries.setdefault(project_id, _Allowance(5, 20))
        before = own.skipped
        granted = _all_entries.take(own.take(wanted))
        if not granted:
            own.skipped = before + wanted
            return 0, 0
        own.skipped = wanted - granted
        return granted, before


def _entry(said: dict[str, Any], status: int, sent: Sent) -> Refusal:
    body = sent.body[:MAX_KEPT_BYTES]
    return Refusal(
        id=secrets.token_hex(6),
        at=clock.milliseconds(),
        trace_id=sent.trace_id,
        token_id=sent.token_id,
        path=_cut(sent.path),
        status=status,
        code=str(said["code"]),
        error=_cut(said["error"]),
        dataset_id=sent.dataset_id,
        field=_cut(said.get("field", "")),
        detail=_cut(said.get("detail", "")),
        index=int(said.get("index", -1)),
        form=sent.form,
        body=redacted(body)[:MAX_KEPT_BYTES],
        is_cut=len(sent.body) > len(body),
    )


def _cut(text: object) -> str:
    """Return the beginning of a text without tokens: a client may send its key as the name of a field, for example."""
    return _TOKEN.sub(b"[token]", str(text).encode(errors="replace")).decode()[:_MAX_TEXT]


def redacted(body: bytes) -> bytes:
    """Return JSON text without tokens, and without the values of fields whose names suggest a secret."""
    return _TOKEN.sub(b"[token]", _SECRET_VALUE.sub(rb'\1"[removed]"', body))


def latest(project_id: int) -> list[Refusal]:
    """Return the refusals of a project in the last week, newest first. Raises RedisError."""
    found = map(_recent, redis.client().lrange(redis_keys.refusal_log(project_id), 0, -1))
    return [refusal for refusal in found if refusal is not None]


def _recent(packed: bytes) -> Refusal | None:
    """Return a refusal of the last week, or None if it is older or if another release has written it."""
    try:
        refusal = _unpack(packed)
    except (msgspec.DecodeError, ValueError):
        return None
    return refusal if refusal.at > clock.milliseconds() - _KEPT_SECONDS * 1000 else None


def forget_old() -> None:
    """Delete the refusals that are older than a week. Redis deletes a log only a week after its latest refusal."""
    client = redis.client()
    for log_key in map(redis_keys.refusal_log, projects()):
        for packed in client.lrange(log_key, 0, -1):
            if _recent(packed) is None:
                client.lrem(log_key, -1, packed)


def find(project_id: int, refusal_id: str) -> Refusal | None:
    """Return one refusal of a project, or None if it is no longer kept. Raises RedisError."""
    return next((each for each in latest(project_id) if each.id == refusal_id), None)


def projects() -> list[int]:
    """Return the projects that have a log, the project with the latest refusal first. Raises RedisError."""
    logs = (tagged(redis_keys.REFUSAL_LOGS, tag) for tag in tags.in_use())
    found = redis.each([("ZREVRANGE", each, 0, -1, "WITHSCORES") for each in logs])
    refused = [(float(at), int(project)) for flat in found for project, at in zip(flat[::2], flat[1::2], strict=True)]
    return [project_id for _, project_id in sorted(refused, reverse=True)]
