"""What a commit carries beside rows: how far the queue was read, and how many rows were ever written.

Both are Delta Lake transactions: numbers by name, written in the same atomic commit as the rows. The name contains the
queue's generation, so a new Redis, whose stream ids may be lower, starts from 0.
"""

from __future__ import annotations

from config.lazy import deltalake

# How delta-rs says that another writer committed first: for the same queue, or with a new column.
_CONCURRENT = ("Concurrent transaction", "Metadata changed")


class ConcurrentCommit(Exception):
    """Another writer committed first. Nothing was written: read the table again."""


def is_concurrent(failure: Exception) -> bool:
    """Return whether delta-rs refused a commit because another writer committed first."""
    return any(reason in str(failure) for reason in _CONCURRENT)


def reached(generation: str, watermark: int, stored: int) -> list[deltalake.Transaction]:
    """Return the transactions that note a watermark and a number of rows ever written."""
    return [
        deltalake.Transaction(watermark_id(generation), watermark),
        deltalake.Transaction(stored_id(generation), stored),
    ]


def watermark_id(generation: str) -> str:
    """Return the name of the transaction that notes the watermark."""
    return f"queue-position-{generation}"


def stored_id(generation: str) -> str:
    """Return the name of the transaction that notes how many rows were ever written."""
    return f"queue-stored-{generation}"
