"""Send a chunk: check it under the contract in force and admit it, as the API does with a client's batch."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError
from msgspec import Struct
from redis.exceptions import RedisError

from config.common import clock, loop
from config.common.errors import ApiError, Refused
from config.common.redis import RedisUnavailable
from datasets.contracts.catalog import CatalogUnavailable, check_in_force, under_contract_without_key
from datasets.contracts.contract import Contract, DatasetNotFound
from datasets.models import Dataset
from datasets.schemas.schema import CompiledSchema
from ingest.errors import (
    BodyTooLarge,
    KeyReused,
    QueueFull,
    QueueUnavailable,
    QuotaExceeded,
    TooManyKeys,
    TooManyRecords,
)
from ingest.importing.checking import Checked, Refusal, check
from ingest.importing.earlier import accepted_before
from ingest.importing.journal import Description, Journal
from ingest.importing.rows import Chunk
from ingest.queue.admission import Retryable, admit
from ingest.queue.redis_clock import earlier_schema

T = TypeVar("T")

# A failure that may be over after a while, if it does not say itself when to try again.
_RETRY_SECONDS = 1.0
# A key that is older than this part of its life may be forgotten by the time it is used.
_LIFE = 0.9
_AGAIN = "Then run the same command again: it continues where it stopped."


class Sent(Struct):
    """What became of a chunk."""

    accepted: int
    refused: list[Refusal]


class Sender:
    """Sends the chunks of one import."""

    def __init__(
        self,
        dataset: Dataset,
        journal: Journal,
        description: Description,
        waiting: Callable[[str], None],
    ) -> None:
        self._dataset, self._journal, self._description = dataset, journal, description
        self._waiting = waiting  # is told why the import waits, and an empty text when it continues

    def schema(self) -> CompiledSchema:
        """Return the schema in force."""

        async def declared(contract: Contract) -> CompiledSchema:
            return contract.schema

        try:
            return self._under_contract(declared)
        except DatasetNotFound:
            raise self._not_found() from None

    def _under_contract(self, use: Callable[[Contract], Awaitable[T]]) -> T:
        return loop.run(under_contract_without_key(self._dataset.project_id, self._dataset.pk, use))

    def send(self, chunk: Chunk, *, are_lines: bool) -> Sent:
        """Send a chunk until it is accepted. Raises Refused if waiting does not help."""
        waits = False
        while True:
            try:
                sent = self._attempt(chunk, are_lines)
            except (QueueFull, QueueUnavailable, TooManyKeys) as refusal:
                reason, seconds = _in_words(refusal), float(refusal.headers["Retry-After"])
            except (RedisUnavailable, RedisError, CatalogUnavailable, DatabaseError) as failure:
                reason, seconds = str(failure) or "no answer from the database", _RETRY_SECONDS
            except (ApiError, Refused) as refusal:
                raise self._stop(refusal) from refusal
            else:
                if waits:
                    self._waiting("")
                return sent
            waits = True
            self._waiting(f"{reason.rstrip('.')}. Trying again after {seconds:g} s.")
            time.sleep(seconds)

    def _attempt(self, chunk: Chunk, are_lines: bool) -> Sent:
        use = partial(self._send_under, chunk, are_lines)
        if self._keys_may_be_forgotten():
            accepted = accepted_before(self._dataset, self._trace_id(chunk), self._description.began)
            if accepted:
                return Sent(accepted, self._under_contract(partial(self._check, chunk, are_lines)).refused)
        return self._under_contract(use)

    async def _check(self, chunk: Chunk, are_lines: bool, contract: Contract) -> Checked:
        return check(contract.schema, await earlier_schema(contract), chunk, are_lines=are_lines)

    async def _send_under(self, chunk: Chunk, are_lines: bool, contract: Contract) -> Sent:
        checked = await self._check(chunk, are_lines, contract)
        if checked.payload is None:
            await check_in_force(contract)
            return Sent(0, checked.refused)
        admission = await admit(
            contract, checked.payload, trace_id=self._trace_id(chunk), retryable=self._retryable(chunk)
        )
        return Sent(admission.count, checked.refused)

    def _retryable(self, chunk: Chunk) -> Retryable:
        """Return what identifies a chunk: the file, its place in the file, and how the file is read."""
        key = f"import-{self._description.digest}-{chunk.begin}"
        return Retryable.of(key, "import", f"{chunk.end} {self._description.options}".encode())

    def _trace_id(self, chunk: Chunk) -> str:
        return f"import-{self._description.digest[:16]}-{chunk.begin}"

    def _keys_may_be_forgotten(self) -> bool:
        """Return whether an earlier attempt may be older than the life of its Idempotency-Key."""
        last = self._journal.progress.at or self._description.began
        return clock.now() - last > timedelta(seconds=_LIFE * settings.IDEMPOTENCY_TTL_SECONDS)

    def _not_found(self) -> Refused:
        return Refused(
            f"Dataset {self._dataset.pk} takes no records: it is archived, or has no schema yet. Change that in the "
            f"admin. {_AGAIN}"
        )

    def _stop(self, refusal: ApiError | Refused) -> Refused:
        """Return why the import stops, and how it can go on."""
        if isinstance(refusal, Refused):
            return refusal
        if isinstance(refusal, DatasetNotFound):
            return self._not_found()
        if isinstance(refusal, QuotaExceeded):
            quota = refusal.details["quota"]
            return Refused(
                f"The next {quota['requested']:,} records do not fit into the monthly quota: {quota['used']:,} of "
                f"{quota['limit']:,} records are used. Raise the quota (`manage.py quota`), or wait until "
                f"{quota['resets_at']}. {_AGAIN}"
            )
        if isinstance(refusal, KeyReused):
            return Refused(
                "This file was imported in the last day with other options or limits, and its progress file is gone. "
                "Use the same options as then, or wait for a day."
            )
        if isinstance(refusal, TooManyRecords | BodyTooLarge):
            return Refused(
                f"{_in_words(refusal)}. The import began with chunks of {self._description.most_records:,} records "
                f"and {self._description.most_bytes:,} bytes: set the limits as they were. {_AGAIN}"
            )
        return Refused(f"{_in_words(refusal)}. {_AGAIN}")


def _in_words(refusal: ApiError) -> str:
    detail = refusal.details.get("detail")
    return f"{refusal.error}: {detail}".rstrip(".") if detail else refusal.error
