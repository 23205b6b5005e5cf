"""The contract catalog: finds the contract that holds for a request.

Each web process caches contracts. A request whose contract is cached and fresh does not query the database. A cached
contract is used only while the project's revision is the same. `admit.lua` compares the revision when it admits a
request. `under_contract` compares it before it refuses one.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError

from config.common.errors import ApiError
from config.common.threads import READING
from datasets.contracts import cache, reading, revisions
from datasets.contracts.browsers import BrowserKey
from datasets.contracts.cache import Asked, Entry
from datasets.contracts.contract import Contract, StaleContract
from datasets.contracts.keys import Claims, read_token

T = TypeVar("T")

# How many times one request reads its contract because it has changed again. Admins do not save changes that fast.
_MAX_LOADS = 5


class CatalogUnavailable(Exception):
    """The contract is not cached and the database does not answer, or the contract changed each time it was read."""


async def under_contract(
    token: str,
    dataset_id: int | None,
    use: Callable[[Contract], Awaitable[T]],
    check_sender: Callable[[BrowserKey | None], None],
) -> T:
    """Call `use` with the contract in force for a token and a dataset (None: the project's default dataset).

    `check_sender` is called first. It raises a refusal if this sender may not use the key.

    If `use` finds in its atomic step that the contract has changed, it raises StaleContract. This function then calls
    `use` again, with the new contract. If `use` raises a refusal under a cached contract, this function first checks
    whether the contract is still in force. If not, this function calls `use` with the new contract.

    Raises the refusals of `use` and `check_sender`, InvalidApiKey, MissingProjectClaim, DatasetNotFound,
    CatalogUnavailable, or `config.common.redis.RedisUnavailable`.
    """
    asked = (token, dataset_id)
    entry, moment = cache.known(asked), time.monotonic()
    if entry is not None and entry.fresh_until > moment:
        entry.used_at = moment
        try:
            return await use(entry.contract(check_sender))
        except StaleContract:
            pass
        except ApiError as refusal:
            if refusal.confirmed or await _is_in_force(entry.revision, entry.claims.project_id):
                raise
    claims = entry.claims if entry is not None else read_token(token)
    for _ in range(_MAX_LOADS):
        entry = await _load(asked, claims)
        try:
            return await use(entry.contract(check_sender))
        except StaleContract:
            continue
    raise CatalogUnavailable


async def under_contract_without_key(project_id: int, dataset_id: int, use: Callable[[Contract], Awaitable[T]]) -> T:
    """Call `use` with the contract in force for a dataset. For commands, which need no API key.

    This function reads the contract each time, so it need not compare the revision after a refusal of `use`. If `use`
    raises StaleContract, this function calls it again.

    Raises the refusals of `use`, InactiveProject, DatasetNotFound, DatabaseError, CatalogUnavailable, or
    `config.common.redis.RedisUnavailable`.
    """
    for _ in range(_MAX_LOADS):
        revision = await revisions.current(project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS)
        contract = await READING.run(reading.read_without_key, revision, project_id, dataset_id)
        try:
            return await use(contract)
        except StaleContract:
            continue
    raise CatalogUnavailable


async def check_in_force(contract: Contract) -> None:
    """Raise StaleContract if the contract has changed. Call this if `admit.lua` does not check the contract."""
    if not await _is_in_force(contract.revision, contract.project_id):
        raise StaleContract


async def _is_in_force(revision: bytes, project_id: int) -> bool:
    return revision == await revisions.current(project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS)


async def _load(asked: Asked, claims: Claims) -> Entry:
    # Read the revision first. If a change is committed between the two reads, the entry then has the old revision. So
    # it is stale, but never wrong.
    revision = await revisions.current(claims.project_id, timeout=settings.ADMISSION_TIMEOUT_SECONDS)
    try:
        entry = await READING.run(reading.read, revision, claims, asked[1])
    except DatabaseError as failure:
        known = cache.known(asked)
        if known is not None and known.revision == revision:
            # The entry is older than CATALOG_TTL_SECONDS, but the project's revision is the same, so it still holds.
            return known
        raise CatalogUnavailable from failure
    if revisions.is_settled(revision):
        cache.keep(asked, entry)
    return entry
