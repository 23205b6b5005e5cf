"""The contract catalog: what a request with a given key, for a given dataset, is held to.

Cached in the process, so that a warm request asks no database. A cached contract is used only as long as the
project's revision stands: `admit.lua` compares it when it admits, and `under_contract` before anything is refused.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError, close_old_connections

from config.errors import ApiError
from datasets import revisions
from datasets.keys import Claims, InvalidApiKey, read_token
from datasets.models import ApiKey, SchemaVersion
from datasets.schema import CompiledSchema, Field

T = TypeVar("T")

# Loads in a row under which a contract may change before we give up: an admin does not save that fast.
_MOST_LOADS = 5


class DatasetNotFound(ApiError):
    """No such dataset, another project's, archived, or without a schema: one answer for all."""

    status, code, error = 404, "dataset_schema_not_found", "Dataset schema not found"


class StaleContract(Exception):
    """The contract is no longer in force: nothing happened under it; read it again."""


class CatalogUnavailable(Exception):
    """The contract is not cached and the database does not answer."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a request is held to: whose it is, and the schema in force."""

    revision: bytes
    project_id: int
    owner_id: int
    key_id: int
    dataset_id: int
    is_archived: bool
    declared: CompiledSchema

    @property
    def schema(self) -> CompiledSchema:
        """What records are held to. Raises DatasetNotFound where none are taken any more: the dataset is archived.

        What was accepted before may still be asked for.
        """
        if self.is_archived:
            raise DatasetNotFound
        return self.declared


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the database said of a token and a dataset: a contract, or the refusal."""

    revision: bytes
    project_id: int
    outcome: Contract | ApiError
    expires_at: float | None  # of the key, in seconds since the epoch
    fresh_until: float  # by the monotonic clock

    def contract(self) -> Contract:
        if self.expires_at is not None and self.expires_at <= time.time():
            raise InvalidApiKey
        if isinstance(self.outcome, ApiError):
            raise self.outcome
        return self.outcome


_Key = tuple[str, int | None]
_contracts: dict[_Key, _Entry] = {}
# Apart, and fewer: who asks for one dataset after the other that is not there evicts refusals, and nobody's contract.
_refusals: dict[_Key, _Entry] = {}
_REFUSALS_SHARE = 10
_eviction = threading.Lock()


def under_contract(token: str, dataset_id: int | None, use: Callable[[Contract], T]) -> T:
    """Call `use` with the contract in force for a token and a dataset (None: the project's default dataset).

    `use` raises StaleContract where it finds, in the same step in which it would have acted, that the contract has
    been changed; it is then called again with the new one. A refusal that it raises under a cached contract is
    passed on only after a look at the revision, so that nobody is refused under a state that is over.

    Raises the refusals of `use`, InvalidApiKey, MissingProjectClaim, DatasetNotFound; CatalogUnavailable, or
    `config.redis.RedisUnavailable`.
    """
    entry = _known(token, dataset_id)
    if entry is not None and entry.fresh_until > time.monotonic():
        try:
            return use(entry.contract())
        except StaleContract:
            pass
        except ApiError as refusal:
            if refusal.confirmed or _is_in_force(entry):
                raise
    claims = read_token(token)
    for _ in range(_MOST_LOADS):
        try:
            return use(_load(token, claims, dataset_id).contract())
        except StaleContract:
            continue
    raise CatalogUnavailable


def check_in_force(contract: Contract) -> None:
    """For a use that `admit.lua` does not check. Raises StaleContract where the contract has been changed."""
    if contract.revision != revisions.current(contract.project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS):
        raise StaleContract


def forget_all() -> None:
    """Empty the cache, as a new process would find it."""
    _contracts.clear()
    _refusals.clear()


def size() -> int:
    """How many answers are kept."""
    return len(_contracts) + len(_refusals)


def _known(token: str, dataset_id: int | None) -> _Entry | None:
    return _contracts.get((token, dataset_id)) or _refusals.get((token, dataset_id))


def _keep(key: _Key, entry: _Entry) -> None:
    entries, most = _contracts, settings.CATALOG_MAX_ENTRIES
    if isinstance(entry.outcome, ApiError):
        entries, most = _refusals, max(1, most // _REFUSALS_SHARE)
    with _eviction:
        _contracts.pop(key, None)
        _refusals.pop(key, None)
        while len(entries) >= most:
            entries.pop(next(iter(entries)))
        entries[key] = entry


def _is_in_force(entry: _Entry) -> bool:
    return entry.revision == revisions.current(entry.project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS)


def _load(token: str, claims: Claims, dataset_id: int | None) -> _Entry:
    # The revision first: a change committed between the two reads then makes the entry stale, not wrong.
    revision = revisions.current(claims.project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS)
    fresh_until = time.monotonic() + settings.CATALOG_TTL_SECONDS
    try:
        outcome, expires_at = _read(revision, claims, dataset_id)
    except DatabaseError as failure:
        known = _known(token, dataset_id)
        if known is not None and known.revision == revision:
            return known  # past its time, but nothing has been changed since
        raise CatalogUnavailable from failure
    entry = _Entry(revision, claims.project_id, outcome, expires_at, fresh_until)
    if revisions.is_settled(revision):
        _keep((token, dataset_id), entry)
    return entry


def _read(revision: bytes, claims: Claims, dataset_id: int | None) -> tuple[Contract | ApiError, float | None]:
    close_old_connections()
    try:
        key = (
            ApiKey.objects.select_related("project")
            .filter(token_id=claims.token_id, project_id=claims.project_id, revoked_at=None, project__is_active=True)
            .first()
        )
        if key is None:
            return InvalidApiKey(), claims.expires_at
        ends = [claims.expires_at] if claims.expires_at is not None else []
        ends += [key.expires_at.timestamp()] if key.expires_at is not None else []
        expires_at = min(ends, default=None)
        wanted = key.project.default_dataset_id if dataset_id is None else dataset_id
        if wanted is None:
            return DatasetNotFound(), expires_at
        version = (
            SchemaVersion.objects.select_related("dataset")
            .filter(dataset__pk=wanted, dataset__project_id=claims.project_id)
            .order_by("-number")
            .first()
        )
        if version is None:
            return DatasetNotFound(), expires_at
        contract = Contract(
            revision=revision,
            project_id=claims.project_id,
            owner_id=key.project.owner_id,
            key_id=key.pk,
            dataset_id=version.dataset_id,
            is_archived=version.dataset.is_archived,
            declared=compiled(version.pk, tuple(version.field_list())),
        )
        return contract, expires_at
    finally:
        close_old_connections()


@lru_cache(maxsize=20_000)
def compiled(version_id: int, fields: tuple[Field, ...]) -> CompiledSchema:
    """The version's compiled schema: one per process, shared by all keys and by the drain."""
    return CompiledSchema(version_id, fields)
