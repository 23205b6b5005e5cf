"""Send a chunk: check it under the contract in force and admit it, as the API does with a client's batch."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError
from redis.exceptions import RedisError

from config.common import clock, loop
from config.common.errors import ApiError, BodyTooLarge, KeyReused, Refused
from config.common.redis import RedisUnavailable
from config.common.threads import READING
from datasets.contracts.catalog import CatalogUnavailable, check_in_force, under_contract_without_key
from datasets.contracts.contract import Contract, DatasetNotFound
from datasets.models import Dataset
from datasets.schemas.schema import CompiledSchema
from ingest.api import receipts
from ingest.errors import QueueFull, QueueUnavailable, QuotaExceeded, TooManyKeys, TooManyRecords
from ingest.importing.checking import Checked, check
from ingest.importing.journal import Description, Journal, Progress
from ingest.importing.refused import RefusedRows
from ingest.importing.rows import Chunk, Source
from ingest.importing.uncertain import is_in_dataset
from ingest.queue.admission import accepted_before, admit
from ingest.queue.formats import Retryable
from ingest.queue.redis_clock import earlier_schema

T = TypeVar("T")

# The pause after a failure that does not say when to try again.
_RETRY_SECONDS = 1.0
# If an Idempotency-Key is older than this share of IDEMPOTENCY_TTL_SECONDS, Redis may forget it before the import sends
# the chunk again.
_LIFE = 0.9
_WITHOUT_PROGRESS = (
    "The chunk of rows from row {number} on was accepted before, under another schema version, and the progress file "
    "of that run is gone. So this command cannot tell which of its rows were accepted then."
)
_AGAIN = "Then run the same command again: it continues where it stopped."


class Sender:
    """Sends the chunks of one import."""

    def __init__(
        self,
        dataset: Dataset,
        journal: Journal,
        description: Description,
        refused: RefusedRows,
        waiting: Callable[[str], None],
    ) -> None:
        self._dataset, self._journal, self._description = dataset, journal, description
        self._refused = refused
        self._waiting = waiting  # shows why the import waits; the text is empty when it continues

    def schemas(self) -> list[CompiledSchema]:
        """Return the schema in force and, in a grace period, also the schema of the previous version."""

        async def in_force(contract: Contract) -> list[CompiledSchema]:
            earlier = await earlier_schema(contract)
            return [contract.schema, *([earlier] if earlier else [])]

        try:
            return self._under_contract(in_force)
        except DatasetNotFound:
            raise self._not_found() from None

    def _under_contract(self, use: Callable[[Contract], Awaitable[T]]) -> T:
        return loop.run(under_contract_without_key(self._dataset.project_id, self._dataset.pk, use))

    def send(self, chunk: Chunk, source: Source) -> None:
        """Send a chunk until it is accepted, and save this progress. Raises Refused if waiting does not help."""
        waits = False
        while True:
            try:
                receipt = self._under_contract(partial(self._send_under, chunk, source))
            except (QueueFull, QueueUnavailable, TooManyKeys) as refusal:
                reason, seconds = _in_words(refusal), float(refusal.headers["Retry-After"])
            except (RedisUnavailable, RedisError, CatalogUnavailable, DatabaseError) as failure:
                reason, seconds = str(failure) or "no answer from the database", _RETRY_SECONDS
            except (ApiError, Refused) as refusal:
                raise self._stop(refusal) from refusal
            else:
                break
            waits = True
            self._waiting(f"{reason.rstrip('.')}. Trying again after {seconds:g} s.")
            time.sleep(seconds)
        if waits:
            self._waiting("")
        self._journal.confirm(receipt)

    async def _send_under(self, chunk: Chunk, source: Source, contract: Contract) -> str:
        """Send a chunk, if it was not accepted before. Return its receipt, or an empty text if there is none."""
        retryable = self._retryable(chunk)
        accepted = await self._accepted_by_earlier_attempt(chunk, contract, retryable)
        if accepted is not None:
            return accepted
        checked = check(contract.schema, await earlier_schema(contract), chunk, are_lines=source.are_lines)
        self._expect(chunk, checked, source.first_number)
        if checked.payload is None:
            await check_in_force(contract)
            count = 0
            first = await accepted_before(contract, retryable)
        else:
            count = checked.payload.count
            first = await admit(contract, checked.payload, trace_id=self._trace_id(chunk), retryable=retryable)
        if first is None:
            return ""
        if first.count != count:
            raise Refused(_WITHOUT_PROGRESS.format(number=chunk.begin + source.first_number))
        return receipts.issue(first)

    async def _accepted_by_earlier_attempt(self, chunk: Chunk, contract: Contract, retryable: Retryable) -> str | None:
        """Return the receipt of this chunk if an earlier attempt to send it was accepted, or None.

        The attempt may be one of an earlier run. If Redis may have forgotten its Idempotency-Key, look for the chunk in
        the table and in quarantine. If it is there, return an empty text.
        """
        expected = self._journal.expected
        if expected is None or expected.end != chunk.end or expected.at is None:
            return None
        if expected.accepted == self._journal.progress.accepted:
            return None  # no row was good, so nothing was sent
        first = await accepted_before(contract, retryable)
        if first is not None:
            return receipts.issue(first)
        if clock.now() - expected.at <= timedelta(seconds=_LIFE * settings.IDEMPOTENCY_TTL_SECONDS):
            return None
        began = self._description.began
        return "" if await READING.run(is_in_dataset, self._dataset, self._trace_id(chunk), began) else None

    def _expect(self, chunk: Chunk, checked: Checked, first_number: int) -> None:
        """Write the refused rows of a chunk. Then write the numbers that are true if the chunk is accepted."""
        before = self._journal.progress
        size = self._refused.write(checked.refused, first_number, before.refused_bytes)
        self._journal.expect(
            Progress(
                end=chunk.end,
                rows=before.rows + chunk.rows,
                accepted=before.accepted + chunk.rows - len(checked.refused),
                refused=before.refused + len(checked.refused),
                refused_bytes=size,
            )
        )

    def _retryable(self, chunk: Chunk) -> Retryable:
        """Return what identifies a chunk: the file, its place in the file, and how the file is read."""
        key = f"import-{self._description.digest}-{chunk.begin}"
        return Retryable.of(key, "import", f"{chunk.end} {self._description.options}".encode())

    def _trace_id(self, chunk: Chunk) -> str:
        return f"import-{self._description.digest[:16]}-{chunk.begin}"

    def _not_found(self) -> Refused:
        return Refused(
            f"Dataset {self._dataset.pk} takes no records: it is archived, or has no schema yet. Change that in the "
            f"admin. {_AGAIN}"
        )

    def _stop(self, refusal: ApiError | Refused) -> Refused:
        """Return why the import stops, and how it can continue."""
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
