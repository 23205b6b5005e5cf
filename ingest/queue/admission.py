"""Admit requests to the queue. One Redis round trip decides, charges and queues."""

import logging
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
from config.common.cluster.key_tags import is_cluster, of_user, tagged
from config.common.errors import BodyTooLarge, KeyReused
from config.common.pipelined import SharedKeys, execute, run
from config.common.redis import Argument, RedisUnavailable
from config.common.threads import READING
from datasets.contracts import old_form, revisions
from datasets.contracts.catalog import check_in_force
from datasets.contracts.contract import Contract, StaleContract
from ingest.errors import (
    NOTHING_HAPPENED,
    OUTCOME_UNKNOWN,
    KeyInProgress,
    QueueFull,
    QueueOutOfReach,
    QueueUnavailable,
)
from ingest.queue import formats, redis_keys
from ingest.queue.formats import DIGEST_BYTES, Earlier, Payload, Retryable
from ingest.queue.quota_answers import RATE_SECONDS, full, over_quota, too_fast, too_many_keys
from ingest.queue.redis_clock import RedisClock
from ingest.queue.scripts import script
from ingest.queue.seeding import answer_before_move, seeded
from ingest.queue.slots import Slot, free_slots
from quotas import counters
from quotas import services as quotas
from quotas.period import period_of

logger = logging.getLogger(__name__)
_admit = script("admit")

# The maximum number of a process's admissions that wait for Redis. Further ones are refused, so that the wait is short.
MAX_IN_FLIGHT = 2_000

# A process sends the time of an API key's last use to Redis at most once in this time.
_LAST_USED_SECONDS = 10.0

_TOO_MANY = {
    "detail": "This web process already has the maximum number of requests that wait for Redis. Nothing was queued or "
    "charged."
}


class Admission(Struct, frozen=True):
    """An accepted request: its place in the queue, and the state of the quota."""

    dataset_id: int
    generation: str
    stream_id: str
    count: int
    limit: int
    used: int
    period: str
    is_repeated: bool  # whether this is the answer to an earlier request with the same Idempotency-Key
    rejected: bytes = b""  # the text about refused records in the first answer; empty if the batch was not lenient


class _Settings(NamedTuple):
    """Copies of the settings that admission reads, because each access to Django's settings costs a microsecond."""

    timeout: float  # seconds
    dataset_bytes: int
    total_bytes: int
    share: float  # a project may use this share of the part of `total_bytes` that other projects leave free
    idempotency_seconds: int
    idempotency_keys: int  # a project may use this number of Idempotency-Keys in `idempotency_seconds`
    replicas: int  # this number of replicas must have a record before the service answers 202


@lru_cache(maxsize=1)
def _settings() -> _Settings:
    return _Settings(
        settings.ADMISSION_TIMEOUT_SECONDS,
        settings.BACKLOG_LIMIT_BYTES_PER_DATASET,
        settings.BACKLOG_LIMIT_BYTES,
        settings.BACKLOG_SHARE_PER_PROJECT,
        settings.IDEMPOTENCY_TTL_SECONDS,
        settings.IDEMPOTENCY_KEYS_PER_PROJECT,
        settings.REDIS_WAIT_REPLICAS,
    )


@receiver(setting_changed)
def _forget_settings(**_: Any) -> None:
    """Read the settings again. Only tests change them."""
    _settings.cache_clear()


class _InFlight:
    """Admissions of this process that Redis has not answered yet."""

    count = 0


_last_use_noted: dict[int | None, float] = {}
_keys_in_progress: set[tuple[int, str]] = set()
# By tag: the generation that this process has checked and read last. admit.lua refuses any other generation.
_generations: dict[int, str] = {}


def _unpacked(rejected: bytes = b"") -> bytes:
    """Decompress the text about refused records, which `_add_optional` has compressed."""
    return zlib.decompress(rejected) if rejected else b""


async def admit(contract: Contract, payload: Payload, *, trace_id: str, retryable: Retryable | None) -> Admission:
    """Queue a payload and charge its records in one step. If the request is repeated, only return the first answer.

    After an error, nothing is queued or charged. The exception is a QueueOutOfReach that says OUTCOME_UNKNOWN.

    Raises:
        StaleContract: The contract has changed. Read it again.
        KeyInProgress, KeyReused, TooManyKeys: The Idempotency-Key cannot be used.
        QuotaExceeded: The quota has no room for the records.
        RateLimited, TooManyRecords: The records do not fit into the browser key's rate limit now, or never fit.
        QueueFull, BodyTooLarge: The body does not fit into the backlog now, or never fits.
        QueueUnavailable: Redis does not answer, is overloaded, or has data of another installation or release.
        config.common.redis.RedisUnavailable: Redis did not answer a command that comes before the admission.
    """
    if retryable is None:
        return await _admit_or_refuse(contract, payload, trace_id, None)
    in_progress = (contract.dataset_id, retryable.key)
    if in_progress in _keys_in_progress:
        raise KeyInProgress
    _keys_in_progress.add(in_progress)
    try:
        if is_cluster() and (first := await _before_move(contract, retryable)):
            return first
        return await _admit_or_refuse(contract, payload, trace_id, retryable)
    finally:
        _keys_in_progress.discard(in_progress)


async def accepted_before(contract: Contract, retryable: Retryable) -> Admission | None:
    """Return the first answer to a repeated request, or None if the request was not accepted before.

    Call this when a request with an Idempotency-Key is refused: the schema may have changed, or the dataset may have
    been archived, after the first request was accepted.

    Raises:
        StaleContract: The contract has changed. Read it again.
        config.common.redis.RedisUnavailable: Redis does not answer.
        QueueUnavailable: The request was accepted before, but too few replicas know that.
    """
    key = redis_keys.idempotency(contract.dataset_id, retryable.key)
    found = await (_find_replicated(key) if _settings().replicas else execute("GET", key, timeout=_settings().timeout))
    if found is None:
        found = await answer_before_move(contract.dataset_id, retryable.key, timeout=_settings().timeout)
    if found is None or not found.startswith(retryable.digest):
        return None
    return await _first_answer(contract, found)


async def _before_move(contract: Contract, retryable: Retryable) -> Admission | None:
    """Return the first answer from before a move into this cluster, or None. Raises KeyReused if the body differs."""
    found = await answer_before_move(contract.dataset_id, retryable.key, timeout=_settings().timeout)
    if found is None:
        return None
    if not found.startswith(retryable.digest):
        raise KeyReused
    return await _first_answer(contract, found)


async def _first_answer(contract: Contract, found: bytes) -> Admission:
    """Return the first answer to an Idempotency-Key from what Redis keeps, with the present quota."""
    await check_in_force(contract)
    generation, stream_id, count, *rejected = found[DIGEST_BYTES:].split(b" ", 3)
    quota = await READING.run(quotas.current, contract.owner_id)
    return Admission(
        dataset_id=contract.dataset_id,
        generation=generation.decode(),
        stream_id=stream_id.decode(),
        count=int(count),
        limit=quota.limit,
        used=quota.used,
        period=quota.period,
        is_repeated=True,
        rejected=_unpacked(*rejected),
    )


async def _admit_or_refuse(
    contract: Contract, payload: Payload, trace_id: str, retryable: Retryable | None
) -> Admission:
    period = period_of(clock.now())
    while True:
        reply = await _call(contract, payload, trace_id, retryable, period)
        outcome = reply[0]
        if outcome in (b"accepted", b"repeated"):
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
                outcome == b"repeated",
                _unpacked(first[0]) if first else answer,
            )
        _last_use_noted.pop(contract.key_id, None)  # admit.lua has not written the time of use
        if outcome == b"stale":
            raise StaleContract
        if outcome == b"unseeded":
            _generations[of_user(contract.owner_id)] = await seeded(contract.owner_id, period)
        elif outcome == b"over_quota":
            raise over_quota(reply[2], reply[3], payload.count, period)
        elif outcome == b"key_reused":
            raise KeyReused
        elif outcome == b"full":
            raise _full(reply[2], payload)
        elif outcome == b"too_many_keys":
            raise too_many_keys(_settings().idempotency_keys, reply[2])
        elif outcome == b"too_fast":
            raise too_fast(contract.records_per_minute or 0, reply[3], payload.count, reply[2])
        else:
            raise QueueUnavailable(NOTHING_HAPPENED)


def _full(what: bytes, payload: Payload) -> BodyTooLarge | QueueFull:
    """Return the error for a payload that does not fit into the backlog now, or never fits."""
    ours = _settings()
    limit = min(ours.dataset_bytes, int(ours.total_bytes * min(1, ours.share)))
    size = 0 if what == b"memory" else len(payload.queued or formats.packed(payload.body))
    return full(what, size, limit)


async def _call(
    contract: Contract, payload: Payload, trace_id: str, retryable: Retryable | None, period: str
) -> list[Any]:
    """Run admit.lua, with a slot that no other admission uses meanwhile. Return its reply."""
    tag = of_user(contract.owner_id)
    if tag not in RedisClock.ahead_ms:
        await RedisClock.ask(tag, _settings().timeout)
    if _InFlight.count >= MAX_IN_FLIGHT:
        raise QueueOutOfReach(_TOO_MANY)
    free = free_slots[tag]
    slot = free.pop() if free else Slot(tag)
    slot.number += 1
    shared = _shared_keys(contract.project_id, contract.owner_id, contract.dataset_id, period)
    keys: list[Argument] = [slot.name]
    args = _arguments(contract, payload, trace_id, period, slot, tag)
    replicas = _settings().replicas
    if retryable is not None or payload.earlier is not None or contract.records_per_minute is not None or replicas:
        _add_optional(keys, args, contract, payload, retryable)
    _InFlight.count += 1
    try:
        reply: list[Any]
        if replicas:
            reply = await _run_replicated(keys, args, shared)
        else:
            reply = await run(_admit, keys, args, timeout=_settings().timeout, shared=shared)
    except RedisUnavailable as failure:
        raise QueueOutOfReach(OUTCOME_UNKNOWN if failure.sent else NOTHING_HAPPENED) from failure
    except ResponseError as failure:
        # Redis has refused the call of the script or, in Redis 6, a command inside the script.
        if "command not allowed when used memory" in str(failure):
            raise full(b"memory", 0, 0) from failure
        raise QueueUnavailable(NOTHING_HAPPENED) from failure
    finally:
        _InFlight.count -= 1
        # The slot is free again even after a lost reply. If the lost command reaches Redis after the slot's next
        # admission, its number is too low, so admit.lua does nothing.
        free.append(slot)
    RedisClock.learn(tag, reply[1])
    return reply


async def _run_replicated(keys: list[Argument], args: list[Argument], shared: SharedKeys) -> list[Any]:
    """Run admit.lua, and wait until enough replicas have the record. Raises QueueOutOfReach if too few replicas do."""
    ours = _settings()
    reply, found = await run(_admit, keys, args, timeout=ours.timeout, shared=shared, replicated=True)
    if reply[0] == b"not_written" or (reply[0] in (b"accepted", b"repeated") and found < ours.replicas):
        raise QueueOutOfReach(OUTCOME_UNKNOWN)
    return [*reply]


async def _find_replicated(key: bytes) -> bytes | None:
    """Return what Redis keeps with an Idempotency-Key, or None. Raises QueueOutOfReach if too few replicas have it."""
    ours = _settings()
    found: bytes | None
    found, replicas = await run(script("find_key"), [key], [], timeout=ours.timeout, replicated=True)
    if found is not None and replicas < ours.replicas:
        raise QueueOutOfReach(OUTCOME_UNKNOWN)
    return found


def _arguments(
    contract: Contract, payload: Payload, trace_id: str, period: str, slot: Slot, tag: int
) -> list[Argument]:
    """Return the arguments of admit.lua that every request has."""
    ours = _settings()
    return [
        contract.revision,
        slot.number,
        int(clock.seconds() * 1000 + RedisClock.ahead_ms[tag] + ours.timeout * 1000),
        payload.count,
        contract.dataset_id,
        f"{contract.owner_id}:{period}",
        contract.schema.version_id if payload.earlier is None else _version_of(contract, payload.earlier),
        payload.format,
        trace_id,
        payload.queued or formats.packed(payload.body),
        ours.dataset_bytes,
        ours.total_bytes,
        _key_to_note(contract.key_id),
        contract.project_id,
        ours.share,
        _generations.get(tag, ""),
    ]


def _add_optional(
    keys: list[Argument], args: list[Argument], contract: Contract, payload: Payload, retryable: Retryable | None
) -> None:
    """Add the keys and arguments of admit.lua that not every request has."""
    at, parts = len(args), ""
    if retryable is not None:
        parts += "i"
        ours = _settings()
        keys += (redis_keys.idempotency(contract.dataset_id, retryable.key), redis_keys.known_keys(contract.project_id))
        args += (retryable.digest, ours.idempotency_seconds, ours.idempotency_keys)
        args.append(zlib.compress(payload.rejected.answer, 1) if payload.rejected else b"")
    if payload.earlier is not None:
        parts += "g"
        keys.append(old_form.key(contract.dataset_id, contract.schema.version_id))
        args += _of_grace(contract, payload.earlier)
    if contract.key_id is not None and contract.records_per_minute is not None:
        parts += "r"
        keys.append(redis_keys.rate(contract.key_id, contract.project_id))
        args += (contract.records_per_minute, RATE_SECONDS)
    if _settings().replicas:
        parts += "w"
    args.insert(at, parts)


def _version_of(contract: Contract, earlier: Earlier) -> int:
    """Return the schema version of an entry. If the records are of two versions, return the later version."""
    return earlier.version_id if earlier.has_all else contract.schema.version_id


def _of_grace(contract: Contract, earlier: Earlier) -> list[Argument]:
    """Return the arguments of admit.lua for records of the old form in a grace period."""
    ends_ms = contract.grace.ends_ms if contract.grace else 0
    marks = "" if earlier.has_all else earlier.text
    return [ends_ms, contract.key_id or 0, earlier.count, marks, old_form.KEPT_SECONDS]


@lru_cache(maxsize=16_384)
def _shared_keys(project_id: int, owner_id: int, dataset_id: int, period: str) -> SharedKeys:
    """Return the keys of admit.lua that all requests to a dataset in a month share."""
    tag = of_user(owner_id)
    return SharedKeys(
        revisions.key(project_id),
        counters.limit_key(owner_id),
        counters.total_key(owner_id, period),
        counters.delta_key(owner_id, period),
        tagged(redis_keys.GENERATION, tag),
        redis_keys.accepted(dataset_id),
        redis_keys.queued(dataset_id),
        redis_keys.queued_bytes(dataset_id),
        tagged(redis_keys.TOTAL_BYTES, tag),
        tagged(redis_keys.TOTAL_ACCEPTED, tag),
        redis_keys.stream(dataset_id),
        redis_keys.pending(project_id),
        counters.dirty_key(tag),
        tagged(redis_keys.KEYS_LAST_USED, tag),
        tagged(redis_keys.SLOTS, tag),
        tagged(redis_keys.ROOM, tag),
        tagged(redis_keys.TURNS, tag),
    )


def _key_to_note(key_id: int | None) -> int | str:
    """Return the ID of the API key if this admission should note its use, else an empty text."""
    if key_id is None:
        return ""
    moment = time.monotonic()
    if moment - _last_use_noted.get(key_id, -_LAST_USED_SECONDS) < _LAST_USED_SECONDS:
        return ""
    if len(_last_use_noted) > settings.CATALOG_MAX_ENTRIES:
        _last_use_noted.clear()
    _last_use_noted[key_id] = moment
    return key_id
