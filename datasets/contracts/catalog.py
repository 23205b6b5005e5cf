"""The contract catalog: what a request with a given key, for a given dataset, is held to.

Cached in the process, so that a warm request asks no database. A cached contract is used only as long as the
project's revision stands: `admit.lua` compares it when it admits, and `under_contract` before anything is refused.
"""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection

from config.common import clock
from config.common.errors import ApiError
from datasets.contracts import revisions
from datasets.contracts.keys import Claims, InvalidApiKey, read_token
from datasets.models import ApiKey
from datasets.schemas.schema import CompiledSchema, Field, compile_schema

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Loads in a row under which a contract may change before we give up: an admin does not save that fast.
_MAX_LOADS = 5


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


@dataclass(slots=True)
class _Entry:
    """What the database said of a token and a dataset: a contract, or the refusal."""

    claims: Claims
    revision: bytes
    outcome: Contract | type[ApiError]
    expires_at: float  # of the key, in seconds since the epoch
    rows: tuple["_Key | None", "_Dataset | None"]  # that it was made of
    fresh_until: float  # this and the next by the monotonic clock
    used_at: float

    def contract(self) -> Contract:
        if self.expires_at <= clock.seconds():
            raise InvalidApiKey
        if isinstance(self.outcome, Contract):
            return self.outcome
        raise self.outcome


_Asked = tuple[str, int | None]  # a token, and a dataset or the project's default
# Both in the order in which they were read, or confirmed.
_contracts: OrderedDict[_Asked, _Entry] = OrderedDict()
# Apart, and fewer: who asks for one dataset after the other that is not there evicts refusals, and nobody's contract.
_refusals: OrderedDict[_Asked, _Entry] = OrderedDict()
_REFUSALS_SHARE = 10
_lock = threading.Lock()
_CONFIRMED_AT_ONCE = 100
# Between two hundreds, for requests to have their turn.
_PAUSE_SECONDS = 0.001
# A contract that nobody has used for so long is not confirmed any more.
_IDLE_SECONDS = 600.0


def under_contract(token: str, dataset_id: int | None, use: Callable[[Contract], T]) -> T:
    """Call `use` with the contract in force for a token and a dataset (None: the project's default dataset).

    `use` raises StaleContract where it finds, in the same step in which it would have acted, that the contract has
    been changed; it is then called again with the new one. A refusal that it raises under a cached contract is
    passed on only after a look at the revision, so that nobody is refused under a state that is over.

    Raises the refusals of `use`, InvalidApiKey, MissingProjectClaim, DatasetNotFound; CatalogUnavailable, or
    `config.common.redis.RedisUnavailable`.
    """
    entry, moment = _known(token, dataset_id), time.monotonic()
    if entry is not None and entry.fresh_until > moment:
        entry.used_at = moment
        try:
            return use(entry.contract())
        except StaleContract:
            pass
        except ApiError as refusal:
            if refusal.confirmed or _is_in_force(entry):
                raise
    claims = entry.claims if entry is not None else read_token(token)
    for _ in range(_MAX_LOADS):
        entry = _load(token, claims, dataset_id)
        try:
            return use(entry.contract())
        except StaleContract:
            continue
    raise CatalogUnavailable


def keep_confirmed() -> None:
    """For a thread of each web process: confirm what is due, for ever."""
    while True:
        time.sleep(settings.CATALOG_TTL_SECONDS / 10)
        try:
            confirm_due()
        except Exception:  # contracts that are past their time are read again, one by one, as they are asked for
            logger.exception("contracts could not be confirmed")


def confirm_due() -> None:
    """See that contracts which are soon past their time are still what the database says; forget those that are not.

    What is due is due in great numbers. Read one by one, as they are asked for, they would cost many times as much.
    Raises DatabaseError, or `config.common.redis.RedisUnavailable`.
    """
    for _ in range(0, len(_contracts), _CONFIRMED_AT_ONCE):
        moment, due = time.monotonic(), _due()
        if not due:
            break
        used = {asked: entry for asked, entry in due.items() if entry.used_at > moment - _IDLE_SECONDS}
        confirmed = _unchanged(used) if used else set()
        with _lock:
            for asked, entry in due.items():
                if _contracts.get(asked) is not entry:
                    continue
                if asked in confirmed:
                    entry.fresh_until = moment + settings.CATALOG_TTL_SECONDS
                    _contracts.move_to_end(asked)
                else:
                    del _contracts[asked]
        time.sleep(_PAUSE_SECONDS)


def check_in_force(contract: Contract) -> None:
    """For a use that `admit.lua` does not check. Raises StaleContract where the contract has been changed."""
    if contract.revision != revisions.current(contract.project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS):
        raise StaleContract


def forget_all() -> None:
    """Empty the cache, as a new process would find it."""
    with _lock:
        _contracts.clear()
        _refusals.clear()


def size() -> int:
    """How many answers are kept."""
    return len(_contracts) + len(_refusals)


def _known(token: str, dataset_id: int | None) -> _Entry | None:
    return _contracts.get((token, dataset_id)) or _refusals.get((token, dataset_id))


def _keep(asked: _Asked, entry: _Entry) -> None:
    entries, most = _contracts, settings.CATALOG_MAX_ENTRIES
    if not isinstance(entry.outcome, Contract):
        entries, most = _refusals, max(1, most // _REFUSALS_SHARE)
    with _lock:
        _contracts.pop(asked, None)
        _refusals.pop(asked, None)
        while len(entries) >= most:
            entries.popitem(last=False)
        entries[asked] = entry


def _is_in_force(entry: _Entry) -> bool:
    project_id = entry.claims.project_id
    return entry.revision == revisions.current(project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS)


def _load(token: str, claims: Claims, dataset_id: int | None) -> _Entry:
    # The revision first: a change committed between the two reads then makes the entry stale, not wrong.
    revision = revisions.current(claims.project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS)
    try:
        entry = _read(revision, claims, dataset_id)
    except DatabaseError as failure:
        known = _known(token, dataset_id)
        if known is not None and known.revision == revision:
            return known  # past its time, but nothing has been changed since
        raise CatalogUnavailable from failure
    if revisions.is_settled(revision):
        _keep((token, dataset_id), entry)
    return entry


class _Key(NamedTuple):
    """An API key that is neither revoked nor of an inactive project."""

    project_id: int
    token_id: UUID | str  # as the database has it
    id: int
    expires_at: datetime | None
    owner_id: int
    default_dataset_id: int | None


class _Dataset(NamedTuple):
    """A dataset, and the newest version of its schema."""

    project_id: int
    id: int
    is_archived: bool
    version_id: int | None


# In SQL: what Django needs to compile a query is ten times what the database needs to answer it, and each contract
# is read anew when its project has been changed.
_KEYS = """
SELECT k.project_id, k.token_id, k.id, k.expires_at, p.owner_id, p.default_dataset_id
FROM datasets_apikey k
JOIN datasets_project p ON p.id = k.project_id
JOIN auth_user u ON u.id = p.owner_id
WHERE k.revoked_at IS NULL AND p.is_active AND u.is_active AND """
_DATASETS = """
FROM datasets_dataset d
LEFT JOIN datasets_schemaversion v ON v.dataset_id = d.id
    AND v.number = (SELECT max(number) FROM datasets_schemaversion WHERE dataset_id = d.id)
WHERE """
_DATASET_ROW = "SELECT d.project_id, d.id, d.is_archived, v.id"
_KEY_OF_TOKEN = _KEYS + "k.token_id = %s AND k.project_id = %s"
_DATASET_WITH_FIELDS = _DATASET_ROW + ", v.fields" + _DATASETS + "d.id = %s AND d.project_id = %s"
_TOKEN_ID = ApiKey._meta.get_field("token_id")


def _among(ids: set[int]) -> str:
    return f"IN ({', '.join(['%s'] * len(ids))})"


def _select(query: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    """The rows. Raises DatabaseError."""
    with connection.cursor() as cursor:
        cursor.execute(query, list(values))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _read(revision: bytes, claims: Claims, dataset_id: int | None) -> _Entry:
    """What the database says. Raises DatabaseError."""
    moment = time.monotonic()
    close_old_connections()
    try:
        token_id = _TOKEN_ID.get_db_prep_value(claims.token_id, connection)
        keys = _select(_KEY_OF_TOKEN, (token_id, claims.project_id))
        key = _Key(*keys[0]) if keys else None
        wanted = key.default_dataset_id if key and dataset_id is None else dataset_id
        found = _select(_DATASET_WITH_FIELDS, (wanted, claims.project_id)) if key and wanted else []
    finally:
        close_old_connections()
    dataset = _Dataset(*found[0][:-1]) if found else None
    outcome: Contract | type[ApiError] = InvalidApiKey if key is None else DatasetNotFound
    if key and dataset and dataset.version_id:
        outcome = Contract(
            revision=revision,
            project_id=claims.project_id,
            owner_id=key.owner_id,
            key_id=key.id,
            dataset_id=dataset.id,
            is_archived=dataset.is_archived,
            declared=compile_schema(dataset.version_id, tuple(Field(**row) for row in json.loads(found[0][-1]))),
        )
    expires_at = claims.expires_at
    if key and key.expires_at:
        expires_at = min(expires_at, _timestamp(key.expires_at))
    fresh_until = moment + settings.CATALOG_TTL_SECONDS
    return _Entry(claims, revision, outcome, expires_at, (key, dataset), fresh_until, used_at=moment)


def _timestamp(moment: datetime) -> float:
    """SQLite has no time zones; Django writes UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _due() -> dict[_Asked, _Entry]:
    """Of the oldest contracts, those past half of their time."""
    soon = time.monotonic() + settings.CATALOG_TTL_SECONDS / 2
    with _lock:
        oldest = islice(_contracts.items(), _CONFIRMED_AT_ONCE)
        return {asked: entry for asked, entry in oldest if entry.fresh_until < soon}


def _unchanged(entries: Mapping[_Asked, _Entry]) -> set[_Asked]:
    """Those that still stand under the revision in force, and were made of what the database has."""
    projects = {entry.claims.project_id for entry in entries.values()}
    standing = revisions.current_many(projects, timeout=settings.ADMISSION_TIMEOUT_SECONDS)
    key_ids = {entry.rows[0].id for entry in entries.values() if entry.rows[0]}
    dataset_ids = {entry.rows[1].id for entry in entries.values() if entry.rows[1]}
    close_old_connections()
    try:
        keys = set(_select(_KEYS + "k.id " + _among(key_ids), key_ids))
        datasets = set(_select(_DATASET_ROW + _DATASETS + "d.id " + _among(dataset_ids), dataset_ids))
    finally:
        close_old_connections()
    return {
        asked
        for asked, entry in entries.items()
        if entry.revision == standing.get(entry.claims.project_id)
        and entry.rows[0] in keys
        and entry.rows[1] in datasets
    }
