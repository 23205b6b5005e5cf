"""The receipt of accepted records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Receipt:
    """The service has accepted records: it will store each of them exactly once.

    Attributes:
        dataset_id: The dataset, or None for the project's default dataset.
        count: How many records the service has accepted.
        locations: The addresses of the receipts: one path for each request.
        request_id: The `X-Request-Id` of the last answer. The rows of this request have it as `__traceId`, unless
            `is_repeated` is true.
        is_repeated: Whether the service had accepted an earlier attempt of the same request.
    """

    dataset_id: int | None
    count: int
    locations: tuple[str, ...] = ()
    request_id: str | None = None
    is_repeated: bool = False

    def __add__(self, other: Receipt) -> Receipt:
        repeated = self.is_repeated or other.is_repeated
        locations = self.locations + other.locations
        return Receipt(self.dataset_id, self.count + other.count, locations, other.request_id, repeated)
