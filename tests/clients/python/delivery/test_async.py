"""`AsyncDatasetIngestClient` and the service in this process. The sync client has the same logic of delivery."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from dataset_ingest import (
    AsyncDatasetIngestClient,
    AuthenticationError,
    BufferFullError,
    ClosedError,
    DatasetError,
    OutcomeUnknownError,
    ValidationError,
)
from django.db import connection

from datasets import services
from datasets.models import ApiKey, Dataset
from ingest.storing.ledger import balance
from tests.clients.python.seen import AsyncSeen, Seen, refuse
from tests.conftest import record, stored

Use = Callable[[AsyncDatasetIngestClient], Awaitable[None]]
Run = Callable[..., Seen]


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that uses the database."""

    def call() -> Any:
        try:
            return function(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(call)


@pytest.fixture
def run(arguments: dict[str, Any]) -> Run:
    """Return a function that calls `use` with a client in an event loop, and returns the requests."""

    def run_with(use: Use, seen: Seen | None = None, **options: Any) -> Seen:
        found = seen or Seen()

        async def main() -> None:
            transport = AsyncSeen(found)
            async with AsyncDatasetIngestClient(**{**arguments, "transport": transport, **options}) as client:
                await use(client)

        asyncio.run(main())
        return found

    return run_with


def test_send_and_enqueue_store_records(run: Run, dataset: Dataset) -> None:
    async def use(client: AsyncDatasetIngestClient) -> None:
        assert (await client.send([record(amount=1), record(amount=2)])).count == 2
        futures = [await client.enqueue(record(amount=number)) for number in range(3, 28)]
        assert [(await future).count for future in futures] == [10] * 20 + [5] * 5

    seen = run(use, max_batch_records=10, connections=1)
    assert seen.records() == [2, 10, 10, 5]
    assert [row["amount"] for row in stored(dataset)] == [float(number) for number in range(1, 28)]


def test_invalid_records_are_refused_before_anything_is_sent(run: Run) -> None:
    async def use(client: AsyncDatasetIngestClient) -> None:
        with pytest.raises(ValidationError):
            await client.send([record(), record(active="yes")])
        with pytest.raises(ValidationError):
            await client.enqueue(record(active="yes"))

    assert run(use).requests == []


def test_flush_raises_the_first_error(run: Run, key: ApiKey) -> None:
    async def use(client: AsyncDatasetIngestClient) -> None:
        future = await client.enqueue(record())
        await in_thread(services.revoke_key, key)
        with pytest.raises(AuthenticationError):
            await client.flush()
        assert isinstance(future.exception(), AuthenticationError)

    run(use, flush_interval=60)


def test_flush_until_stored_waits_for_the_table(run: Run, dataset: Dataset) -> None:
    async def use(client: AsyncDatasetIngestClient) -> None:
        await client.enqueue(record())
        with pytest.raises(TimeoutError):
            await client.flush("stored", timeout=0.3)
        assert len(await in_thread(stored, dataset)) == 1
        await client.flush("stored", timeout=10)

    run(use)


def test_flush_refuses_an_unknown_until(run: Run) -> None:
    async def steps(client: AsyncDatasetIngestClient) -> None:
        with pytest.raises(ValueError, match="must be"):
            await client.flush("bad")  # type: ignore[arg-type]

    run(steps)


def test_a_full_buffer_is_an_error_or_a_wait(run: Run, dataset: Dataset) -> None:
    async def overflow(client: AsyncDatasetIngestClient) -> None:
        await client.enqueue(record())
        with pytest.raises(BufferFullError):
            await client.enqueue(record())

    async def wait(client: AsyncDatasetIngestClient) -> None:
        for _ in range(20):
            await client.enqueue(record())

    run(overflow, max_buffered_bytes=300)
    run(wait, max_buffered_bytes=1000, on_overflow="block", flush_interval=0.01)
    assert balance(dataset).accepted == 21


def test_leaving_the_block_settles_what_cannot_be_sent(run: Run) -> None:
    futures: list[asyncio.Future[Any]] = []
    errors: list[DatasetError] = []

    async def use(client: AsyncDatasetIngestClient) -> None:
        futures.extend([await client.enqueue(record()) for _ in range(5)])

    run(
        use,
        Seen(refuse),
        max_batch_records=2,
        connections=1,
        close_timeout=0.2,
        on_error=lambda error, records: errors.append(error),
    )
    assert all(isinstance(future.exception(), (ClosedError, OutcomeUnknownError)) for future in futures)
    assert errors


def test_a_spool_keeps_records_for_the_next_client(run: Run, dataset: Dataset, tmp_path: Any) -> None:
    async def enqueue(client: AsyncDatasetIngestClient) -> None:
        for number in range(5):
            await client.enqueue(record(amount=number))

    async def only_flush(client: AsyncDatasetIngestClient) -> None:
        await client.flush()

    def ignore(error: DatasetError, records: Any) -> None:
        """Ignore the error, because the spool has the records."""

    run(enqueue, Seen(refuse), spool=tmp_path / "spool", close_timeout=0.1, on_error=ignore)
    run(only_flush, spool=tmp_path / "spool")
    assert sorted(row["amount"] for row in stored(dataset)) == [0, 1, 2, 3, 4]
    assert list((tmp_path / "spool").iterdir()) == []
