"""What a commit stores in addition to rows: the watermark, and the number of rows ever written.

If a commit stores renumbered entries, it also stores their original stream IDs.

All of these are Delta Lake transactions: numbers with a name, written in the same atomic commit as the rows. The name
contains the queue's generation, because the stream IDs of a new Redis may be lower than those of the old one. So after
Redis was replaced, the numbers start from 0 again. Delta Lake keeps transactions in checkpoints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from config.lazy import deltalake

# The words in delta-rs's errors if another writer committed first: for the same queue, or with a new column.
_CONCURRENT = ("Concurrent transaction", "Metadata changed")


class ConcurrentCommit(Exception):
    """Another writer committed first. Nothing was written: read the table again."""


def is_concurrent(failure: Exception) -> bool:
    """Return whether delta-rs refused a commit because another writer committed first."""
    return any(reason in str(failure) for reason in _CONCURRENT)


def watermark_transactions(generation: str, watermark: int, stored: int) -> list[deltalake.Transaction]:
    """Return the transactions with a watermark and a number of rows ever written."""
    return [
        deltalake.Transaction(watermark_id(generation), watermark),
        deltalake.Transaction(stored_id(generation), stored),
    ]


def watermark_id(generation: str) -> str:
    """Return the name of the transaction with the watermark."""
    return f"queue-position-{generation}"


def renumbered_transactions(generation: str, entries: Iterable[tuple[str, str]]) -> list[deltalake.Transaction]:
    """Return the transactions that name the entries which a commit stores under new stream IDs.

    Args:
        generation: The queue's generation.
        entries: The original stream ID and the trace ID of each entry.
    """
    return [deltalake.Transaction(name, 1) for name in sorted({renumbered_id(generation, *each) for each in entries})]


def renumbered_id(generation: str, first_id: str, trace_id: str) -> str:
    """Return the name of the transaction for an entry which was stored under a new stream ID."""
    digest = hashlib.blake2b(f"{first_id}:{trace_id}".encode(), digest_size=16).hexdigest()
    return f"queue-renumbered-{generation}-{digest}"


def stored_id(generation: str) -> str:
    """Return the name of the transaction with the number of rows ever written."""
    return f"queue-stored-{generation}"
