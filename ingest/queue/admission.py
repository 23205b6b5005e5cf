"""Admission: one Redis round trip that decides, charges and queues."""

import hashlib
import logging
import secrets
import threading
import time
import zlib
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from msgspec import Struct
from redis.exceptions import ResponseError

from config.common import clock
from config.common.redis import Argument, RedisUnavailable, execute
from datasets.contracts import revisions
from datasets.contracts.catalog import Contract, StaleContract
from datasets.installation import UnusableData
from ingest.errors import (
    NOTHING_HAPPENED,
    OUTCOME_UNKNOWN,
    BodyTooLarge,
    KeyInProgress,
    KeyReused,
    QueueFull,
    QueueUnavailable,
    QuotaExceeded,
    TooManyKeys,
)
from ingest.queue import formats, generations, redis_keys
from ingest.queue.formats import Payload
from ingest.queue.scripts import script
from quotas import counters
from quotas import services as quotas
from quotas.models import UNLIMITED
from quotas.period import bounds, period_of

logger = logging.getLogger(__name__)
_admit = script("admit")

# Stock clients sleep for as long as Retry-After says, and the quota may be raised meanwhile.
_MAX_RETRY_AFTER_SECONDS = 3600

# How much of a body's digest is kept with an Idempotency-Key.
_DIGEST_BYTES = 8
# A key's last use is noted at most this often by a process: it is for people to look at.
_LAST_USED_SECONDS = 10.0


# What is full -> the `detail` of the 503.
_FULL = {
    b"dataset": "The backlog of this dataset has reached its limit. Nothing was queued or charged.",
    b"project": "This project has its share of the backlog in the queue. Nothing was queued or charged.",
    b"all": "The backlog of all datasets has reached its limit. Nothing was queued or charged.",
    b"memory": "Redis has no memory left for a longer backlog. Nothing was queued or charged.",
}


_UNUSABLE = {"detail": "The queue's data is not this service's (see /readyz). Nothing was queued or charged."}


class Admission(Struct, frozen=True):
    """An accepted request: where it is in the queue, and what is left of the quota."""

    dataset_id: int
    generation: str
    stream_id: str
    count: int
    limit: int
    used: int
    period: str
    replayed: bool  # the answer to an earlier request with the same Idempotency-Key
    rejected: bytes = b""  # what the first answer said of refused records; empty if all or nothing was asked for


class _Settings(NamedTuple):
    """What admission reads of the settings: each access to Django's costs a microsecond."""

    timeout: float  # seconds
    dataset_bytes: int
    total_bytes: int
    share: float  # of a project, in what the others leave of total_bytes
    idempotency_seconds: int
    idempotency_keys: int  # of a project


@lru_cache(maxsize=1)
def _settings() -> _Settings:
    return _Settings(
        settings.ADMISSION_TIMEOUT_SECONDS,
        settings.BACKLOG_LIMIT_BYTES_PER_DATASET,
        settings.BACKLOG_LIMIT_BYTES,
        settings.BACKLOG_SHARE_PER_PROJECT,
        settings.IDEMPOTENCY_TTL_SECONDS,
        settings.IDEMPOTENCY_KEYS_PER_PROJECT,
    )


@receiver(setting_changed)
def _forget_settings(**_: Any) -> None:
    """For tests, which change settings."""
    _settings.cache_clear()


class _Slot(threading.local):
    """This thread's slot: its name, and the number of its last admission."""

    def __init__(self) -> None:
        self.name = redis_keys.slot(secrets.token_hex(8))
        self.number = 0


_slot = _Slot()
_last_use_noted: dict[int, float] = {}
_keys_in_progress: set[tuple[int, str]] = set()


class _RedisClock:
    """How far Redis's clock is ahead of ours, in ms: a deadline is only good by the clock that checks it."""

    ahead_ms: float | None = None

    @classmethod
    def learn(cls, server_ms: int) -> None:
        cls.ahead_ms = server_ms - clock.seconds() * 1000


class _Queue:
    """The generation that this process last saw to be our installation's: admit.lua acts in no other."""

    generation = ""


class Retryable(Struct, frozen=True):
    """What makes a request the same as an earlier one: its Idempotency-Key, and a digest of what was sent."""

    key: str
    digest: bytes

    @classmethod
    def of(cls, key: str, kind: str, body: bytes) -> "Retryable":
        """`kind`: how the body is to be read. The same bytes as one record and as a batch are two requests."""
        return cls(key, hashlib.blake2b(body, digest_size=16, key=kind.encode()).digest()[:_DIGEST_BYTES])


def _unpacked(rejected: bytes = b"") -> bytes:
    """Return the inverse of what `_call` remembers of refused records."""
    return zlib.decompress(rejected) if rejected else b""


def admit(contract: Contract, payload: Payload, *, trace_id: str, retryable: Retryable | None) -> Admission:
    """Queue the payload and charge its records, if everything allows it, in one step; or do nothing at all.

    Raises StaleContract; KeyInProgress, KeyReused, QuotaExceeded, QueueFull, QueueUnavailable.
    """
    if retryable is None:
        return _admit_or_refuse(contract, payload, trace_id, None)
    in_progress = (contract.dataset_id, retryable.key)
    if in_progress in _keys_in_progress:
        raise KeyInProgress
    _keys_in_progress.add(in_progress)
    try:
        return _admit_or_refuse(contract, payload, trace_id, retryable)
    finally:
        _keys_in_progress.discard(in_progress)


def accepted_before(contract: Contract, retryable: Retryable) -> Admission | None:
    """The first answer to a request that would be refused now: by a newer schema, or since the dataset is archived.

    None where it was not accepted before. Raises `config.common.redis.RedisUnavailable`.
    """
    key = redis_keys.idempotency(contract.dataset_id, retryable.key)
    found: bytes | None = execute("GET", key, timeout=_settings().timeout)
    if found is None:
        return None
    if not found.startswith(retryable.digest):
        return None
    generation, stream_id, count, *rejected = found[_DIGEST_BYTES:].split(b" ", 3)
    quota = quotas.current(contract.owner_id)
    return Admission(
        dataset_id=contract.dataset_id,
        generation=generation.decode(),
        stream_id=stream_id.decode(),
        count=int(count),
        limit=quota.limit,
        used=quota.used,
        period=quota.period,
        replayed=True,
        rejected=_unpacked(*rejected),
    )


def _admit_or_refuse(contract: Contract, payload: Payload, trace_id: str, retryable: Retryable | None) -> Admission:
    period = period_of(clock.now())
    while True:
        reply = _call(contract, payload, trace_id, retryable, period)
        outcome = reply[0]
        if outcome in (b"accepted", b"replayed"):
            _, _, generation, stream_id, count, limit, used, *first = reply
            answer = payload.rejected.answer if payload.rejected else b""
            return Admission(
                contract.dataset_id,
                generation.decode(),
                stream_id.decode(),
                count,
                limit,
                used,
                period,
                outcome == b"replayed",
                _unpacked(first[0]) if first else answer,
            )
        _last_use_noted.pop(contract.key_id, None)  # it was not
        if outcome == b"stale":
            raise StaleContract
        if outcome == b"unseeded":
            _seed(contract, period)
        elif outcome == b"over_quota":
            raise over_quota(reply[2], reply[3], payload.count, period)
        elif outcome == b"key_reused":
            raise KeyReused
        elif outcome == b"full":
            raise _full(reply[2], payload)
        elif outcome == b"too_many_keys":
            raise _too_many_keys(reply[2])
        else:
            raise QueueUnavailable(NOTHING_HAPPENED)


def _seed(contract: Contract, period: str) -> None:
    """Put back what Redis lacks, if it is our installation's; it may have been wiped, and be another's now."""
    try:
        _Queue.generation = generations.begin()
    except UnusableData as refusal:
        logger.error("%s", refusal)
        raise QueueUnavailable(_UNUSABLE) from refusal
    counters.seed(contract.owner_id, period)


def _full(what: bytes, payload: Payload) -> BodyTooLarge | QueueFull:
    """Return the refusal of a payload that has no room in the backlog now, or never will."""
    ours = _settings()
    limit = min(ours.dataset_bytes, int(ours.total_bytes * min(1, ours.share)))
    if what == b"memory" or len(formats.packed(payload.body)) <= limit:
        return QueueFull({"detail": _FULL[what]})
    detail = f"The backlog holds at most {limit} bytes, so this body never fits. Send its records in smaller parts."
    refusal = BodyTooLarge({"limit": limit, "detail": detail})
    refusal.confirmed = True
    return refusal


def _call(contract: Contract, payload: Payload, trace_id: str, retryable: Retryable | None, period: str) -> list[Any]:
    """Run admit.lua; its reply."""
    dataset_id, owner_id = contract.dataset_id, contract.owner_id
    keys: list[Argument] = [*_shared_keys(contract.project_id, owner_id, dataset_id, period), _slot.name]
    _slot.number += 1
    timeout, dataset_bytes, total_bytes, share, idempotency_seconds, idempotency_keys = _settings()
    if _RedisClock.ahead_ms is None:
        _RedisClock.learn(_server_time(timeout))
    args: list[Argument] = [
        contract.revision,
        _slot.number,
        int(clock.seconds() * 1000 + (_RedisClock.ahead_ms or 0) + timeout * 1000),
        payload.count,
        dataset_id,
        f"{owner_id}:{period}",
        contract.schema.version_id,
        payload.format,
        trace_id,
        formats.packed(payload.body),
        dataset_bytes,
        total_bytes,
        contract.key_id if _is_due(contract.key_id) else "",
        contract.project_id,
        share,
        _Queue.generation,
    ]
    if retryable is not None:
        keys += (redis_keys.idempotency(dataset_id, retryable.key), redis_keys.known_keys(contract.project_id))
        args += (retryable.digest, idempotency_seconds, idempotency_keys)
        args.append(zlib.compress(payload.rejected.answer, 1) if payload.rejected else b"")
    try:
        reply: list[Any] = _admit.execute(keys, args, timeout=timeout)
    except RedisUnavailable as failure:
        raise QueueUnavailable(OUTCOME_UNKNOWN if failure.sent else NOTHING_HAPPENED) from failure
    except ResponseError as failure:
        if "command not allowed when used memory" in str(failure):  # at its beginning, or (Redis 6) within
            raise QueueFull({"detail": _FULL[b"memory"]}) from failure
        raise QueueUnavailable(NOTHING_HAPPENED) from failure
    _RedisClock.learn(reply[1])
    return reply


@lru_cache(maxsize=16_384)
def _shared_keys(project_id: int, owner_id: int, dataset_id: int, period: str) -> tuple[str, ...]:
    """The keys of admit.lua that are the same for all requests to a dataset in a month."""
    return (
        revisions.key(project_id),
        counters.limit_key(owner_id),
        counters.total_key(owner_id, period),
        counters.delta_key(owner_id, period),
        redis_keys.GENERATION,
        redis_keys.accepted(dataset_id),
        redis_keys.queued(dataset_id),
        redis_keys.queued_bytes(dataset_id),
        redis_keys.TOTAL_BYTES,
        redis_keys.TOTAL_ACCEPTED,
        redis_keys.stream(dataset_id),
        redis_keys.pending(project_id),
        counters.DIRTY,
        redis_keys.KEYS_LAST_USED,
        redis_keys.SLOTS,
        redis_keys.ROOM,
        redis_keys.TURNS,
    )


def _too_many_keys(seconds: int) -> TooManyKeys:
    limit = _settings().idempotency_keys
    detail = (
        f"The project has used {limit} Idempotency-Keys, as many as are remembered. Send without a key, or wait until "
        "the oldest are forgotten. Nothing was queued or charged."
    )
    retry_after = min(max(1, seconds), _MAX_RETRY_AFTER_SECONDS)
    return TooManyKeys({"limit": limit, "detail": detail}, {"Retry-After": str(retry_after)})


def over_quota(limit: int, used: int, requested: int, period: str) -> QuotaExceeded:
    """Return the 429, with what the client needs to plan: `Retry-After` is capped, `resets_at` is not."""
    _, end = bounds(period)
    seconds = min(max(1, int((end - clock.now()).total_seconds()) + 1), _MAX_RETRY_AFTER_SECONDS)
    quota = {
        "limit": limit,
        "used": used,
        "requested": requested,
        "remaining": max(0, limit - used),
        "period": period,
        "resets_at": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return QuotaExceeded({"quota": quota}, {"Retry-After": str(seconds), **quota_headers(limit, used, period)})


def quota_headers(limit: int, used: int, period: str) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 writes them; none if unlimited."""
    if limit == UNLIMITED:
        return {}
    start, end = bounds(period)
    reset = max(0, int((end - clock.now()).total_seconds()))
    window = int((end - start).total_seconds())
    return {
        "RateLimit-Policy": f'"monthly";q={limit};w={window}',
        "RateLimit": f'"monthly";r={max(0, limit - used)};t={reset}',
    }


def _is_due(key_id: int) -> bool:
    """Whether this admission should note the key's use."""
    moment = time.monotonic()
    if moment - _last_use_noted.get(key_id, -_LAST_USED_SECONDS) < _LAST_USED_SECONDS:
        return False
    if len(_last_use_noted) > settings.CATALOG_MAX_ENTRIES:
        _last_use_noted.clear()
    _last_use_noted[key_id] = moment
    return True


def _server_time(timeout: float) -> int:
    seconds, micros = execute("TIME", timeout=timeout)
    return int(seconds) * 1000 + int(micros) // 1000
