"""The contracts and refusals that this process has read. The event loop and threads use them at the same time."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

from config.common import clock
from config.common.errors import ApiError
from datasets.contracts.browsers import BrowserKey
from datasets.contracts.contract import Contract
from datasets.contracts.keys import Claims, InvalidApiKey

Asked = tuple[str, int | None]  # a token, and a dataset's ID or None for the project's default dataset


class KeyRow(NamedTuple):
    """An API key that is not revoked, and whose project and owner are active."""

    project_id: int
    token_id: UUID | str  # in the database's own type
    id: int
    expires_at: datetime | None
    owner_id: int
    default_dataset_id: int | None
    origins: str  # a JSON array
    records_per_minute: int


class DatasetRow(NamedTuple):
    """A dataset, and the newest version of its schema."""

    project_id: int
    id: int
    is_archived: bool
    version_id: int | None
    previous_valid_until: datetime | None  # see SchemaVersion


@dataclass(slots=True)
class Entry:
    """What the database said about a token and a dataset: a contract, or a refusal."""

    claims: Claims
    revision: bytes
    outcome: Contract | type[ApiError]
    browser: BrowserKey | None  # None: an ordinary key
    expires_at: float  # when the key expires, in seconds since the epoch; 0 if there is no such key
    rows: tuple[KeyRow | None, DatasetRow | None]  # the database rows from which `outcome` was made
    # `fresh_until` and `used_at` are monotonic times.
    fresh_until: float
    used_at: float

    def contract(self, check_sender: Callable[[BrowserKey | None], None]) -> Contract:
        """Return the contract, or raise the refusal.

        `check_sender` raises a refusal if the sender may not use the key.
        """
        if self.expires_at <= clock.seconds():
            raise InvalidApiKey
        check_sender(self.browser)
        if isinstance(self.outcome, Contract):
            return self.outcome
        raise self.outcome


# Contracts in the order in which they were last read or confirmed.
_contracts: OrderedDict[Asked, Entry] = OrderedDict()
# Refusals have a cache of their own, which is smaller. So a client that asks for missing datasets evicts only refusals,
# and never the contract of another client.
_refusals: OrderedDict[Asked, Entry] = OrderedDict()
_REFUSALS_SHARE = 10
_lock = threading.Lock()


def known(asked: Asked) -> Entry | None:
    """Return the entry of a token and a dataset, even if it is no longer fresh, or None."""
    return _contracts.get(asked) or _refusals.get(asked)


def keep(asked: Asked, entry: Entry) -> None:
    """Keep an entry. If the cache is full, remove the entry that was confirmed least recently."""
    entries, most = _contracts, settings.CATALOG_MAX_ENTRIES
    if not isinstance(entry.outcome, Contract):
        entries, most = _refusals, max(1, most // _REFUSALS_SHARE)
    with _lock:
        _contracts.pop(asked, None)
        _refusals.pop(asked, None)
        while len(entries) >= most:
            entries.popitem(last=False)
        entries[asked] = entry


def due(count: int) -> dict[Asked, Entry]:
    """Look at the oldest `count` contracts. Return those for which half of CATALOG_TTL_SECONDS has passed."""
    soon = time.monotonic() + settings.CATALOG_TTL_SECONDS / 2
    with _lock:
        return {asked: entry for asked, entry in islice(_contracts.items(), count) if entry.fresh_until < soon}


def prolong(looked_at: Mapping[Asked, Entry], confirmed: Iterable[Asked], moment: float) -> None:
    """Prolong each contract in `looked_at` that was confirmed at `moment`. Forget all others in `looked_at`."""
    confirmed = set(confirmed)
    with _lock:
        for asked, entry in looked_at.items():
            if _contracts.get(asked) is not entry:
                continue
            if asked in confirmed:
                entry.fresh_until = moment + settings.CATALOG_TTL_SECONDS
                _contracts.move_to_end(asked)
            else:
                del _contracts[asked]


def contracts() -> int:
    """Return how many contracts are kept."""
    return len(_contracts)


def size() -> int:
    """Return how many contracts and refusals are kept."""
    return len(_contracts) + len(_refusals)


def forget_all() -> None:
    """Empty the cache. A new process also begins with an empty cache."""
    with _lock:
        _contracts.clear()
        _refusals.clear()
