"""Records that are being delivered, and the batches in which they are sent."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from dataset_ingest.delivery.steps import Request
from dataset_ingest.errors import DatasetError
from dataset_ingest.receipts import Receipt

Outcome = Receipt | DatasetError

# The limits of a service with default settings. If its limits are lower, it answers 413, and the batch is halved.
MAX_RECORDS = 10_000
MAX_BYTES = 10 * 1024 * 1024 - 1024

_MIN_COMPRESSED_BYTES = 1024
_FAST = 1  # records are similar to each other, so higher levels of gzip cost more time than they save


class Item(Struct, eq=False):
    """One record that is being delivered: its JSON text, and its index among the records that the client was given."""

    text: bytes
    index: int = 0
    spooled: int = 0  # the record's ID in the spool
    since: float = 0.0  # the time at which the record was enqueued. The buffer sets it

    def settle(self, outcome: Outcome) -> None:
        """Give the outcome to the program. Only the first outcome counts."""


class Batch:
    """Records that are sent together, under one Idempotency-Key."""

    def __init__(self, items: Sequence[Item], key: str = "", uncertain_since: float | None = None) -> None:
        self.items = items
        self.key = key or secrets.token_hex(16)
        # The approximate Unix time of the first attempt that the service may have accepted. None if there is none.
        self.uncertain_since = uncertain_since

    def __len__(self) -> int:
        return len(self.items)

    @property
    def indexes(self) -> Sequence[int]:
        """The indexes of the batch's records among the records that the client was given."""
        return [item.index for item in self.items]

    def text(self) -> bytes:
        """Return the records as a JSON array."""
        return b"[%b]" % b",".join([item.text for item in self.items])

    def request(self, path: str) -> Request:
        """Return the request that sends the batch."""
        content = self.text()
        headers = {"Content-Type": "application/json", "Idempotency-Key": self.key}
        if len(content) > _MIN_COMPRESSED_BYTES:
            content = gzip.compress(content, _FAST, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return Request("POST", path, headers, content)

    def halves(self) -> list[Batch]:
        """Return the two halves as new batches."""
        middle = len(self) // 2
        return [Batch(self.items[:middle]), Batch(self.items[middle:])]


class WholeBatch(Batch):
    """A batch whose records were encoded as one text. The text is split only if the batch must be halved."""

    def __init__(self, text: bytes, count: int) -> None:
        super().__init__(())
        self._text, self._count = text, count

    def __len__(self) -> int:
        return self._count

    @property
    def indexes(self) -> Sequence[int]:
        """The indexes of the batch's records among the records that the client was given."""
        return range(self._count)

    def text(self) -> bytes:
        """Return the records as a JSON array."""
        return self._text

    def halves(self) -> list[Batch]:
        """Return the two halves as new batches."""
        texts = msgspec.json.decode(self._text, type=list[Raw])
        return Batch([Item(bytes(text), index) for index, text in enumerate(texts)]).halves()


def within_limits(items: Sequence[Item]) -> Iterator[Batch]:
    """Yield batches that are small enough for the service, in the order of the records."""
    part: list[Item] = []
    size = 0
    for item in items:
        if part and (len(part) == MAX_RECORDS or size + len(item.text) + 1 > MAX_BYTES):
            yield Batch(part)
            part, size = [], 0
        part.append(item)
        size += len(item.text) + 1
    if part:
        yield Batch(part)
