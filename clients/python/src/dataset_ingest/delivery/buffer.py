"""The buffer of enqueued records: it decides when a batch is due, and limits the memory."""

from __future__ import annotations

from collections import deque

from dataset_ingest.delivery.batches import Batch, Item
from dataset_ingest.options import Options


class Buffer:
    """Records that wait, and batches that are being sent. The buffer is not thread-safe.

    The records are numbered in the order in which they were added.
    """

    def __init__(self, options: Options) -> None:
        self._flush_interval = options.flush_interval
        self._max_records = options.max_batch_records
        self._max_batch_bytes = options.max_batch_bytes
        self._max_bytes = options.max_buffered_bytes
        self._waiting: deque[Item] = deque()
        self._waiting_bytes = 0
        # For each batch: the number of its first record, and the size of its records in bytes.
        self._sending: dict[Batch, tuple[int, int]] = {}
        self._bytes = 0  # the size of all records, including those that are being sent
        self._first = 0  # the number of the first waiting record
        self._flushed = 0  # records with lower numbers are due

    @property
    def added(self) -> int:
        """How many records were added so far."""
        return self._first + len(self._waiting)

    def has_room(self, size: int) -> bool:
        """Return whether a record of `size` bytes may be added. An empty buffer takes a record of any size."""
        return self._bytes + size <= self._max_bytes or self._bytes == 0

    def add(self, item: Item, now: float) -> bool:
        """Add a record. Return whether a thread or task that waits must look at the buffer again."""
        item.since = now
        size = len(item.text)
        self._waiting.append(item)
        self._waiting_bytes += size
        self._bytes += size
        count = len(self._waiting)
        return count in (1, self._max_records) or 0 <= self._waiting_bytes - self._max_batch_bytes < size

    def flush(self) -> int:
        """Make all waiting records due. Return the number that the next record will have."""
        self._flushed = self.added
        return self._flushed

    def due_in(self, now: float) -> float | None:
        """Return the seconds after which a batch is due, or None if no record waits."""
        if not self._waiting:
            return None
        if self._first < self._flushed or self._is_full():
            return 0.0
        return max(0.0, self._waiting[0].since + self._flush_interval - now)

    def take(self, now: float) -> Batch | None:
        """Return the next batch if one is due. Call `done` when its records are settled."""
        if self.due_in(now) != 0.0:
            return None
        items: list[Item] = []
        size = 0
        while self._waiting and len(items) < self._max_records:
            more = len(self._waiting[0].text)
            if items and size + more > self._max_batch_bytes:
                break
            size += more
            items.append(self._waiting.popleft())
        batch = Batch(items)
        self._sending[batch] = (self._first, size)
        self._first += len(items)
        self._waiting_bytes -= size
        return batch

    def restore(self, batch: Batch) -> None:
        """Add a batch from the spool. It counts as a batch that is being sent, before all others."""
        size = sum(len(item.text) for item in batch.items)
        self._sending[batch] = (-1, size)
        self._bytes += size

    def done(self, batch: Batch) -> None:
        """Forget a batch whose records are settled."""
        _, size = self._sending.pop(batch, (0, 0))
        self._bytes -= size

    def is_settled(self, number: int) -> bool:
        """Return whether all records with numbers below `number` are settled."""
        if self._waiting and self._first < number:
            return False
        return all(first >= number for first, _ in self._sending.values())

    def abandon(self) -> tuple[list[Item], list[Batch]]:
        """Forget everything. Return the records that waited, and the batches that were being sent."""
        waiting, sending = list(self._waiting), list(self._sending)
        self._first = self._flushed = self.added
        self._waiting.clear()
        self._sending.clear()
        self._waiting_bytes = self._bytes = 0
        return waiting, sending

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._max_records or self._waiting_bytes >= self._max_batch_bytes
