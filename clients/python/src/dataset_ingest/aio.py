"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx

from dataset_ingest.base import Client, answered, check_until, failed, httpx_request
from dataset_ingest.delivery.batches import Batch, Item, Outcome, within_limits
from dataset_ingest.delivery.steps import Pause, Reply, Request, Step, Steps, drive
from dataset_ingest.errors import ClosedError, DatasetError
from dataset_ingest.receipts import Receipt
from dataset_ingest.schema.datasets import Dataset

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from dataset_ingest.options import OptionArguments

T = TypeVar("T")


class _Enqueued(Item, eq=False, kw_only=True):
    """An enqueued record with the future of its delivery."""

    future: asyncio.Future[Receipt]
    is_told: bool  # whether a hook gets the error, so that asyncio need not warn about it

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome, unless it is already set."""
        if self.future.done() or self.future.get_loop().is_closed():
            return
        if isinstance(outcome, Receipt):
            self.future.set_result(outcome)
            return
        self.future.set_exception(outcome)
        if self.is_told:
            self.future.exception()


class AsyncDatasetIngestClient(Client):
    """Sends records to a dataset, in one event loop. The arguments are those of `DatasetIngestClient`.

    Args:
        base_url: The address of the service, like `https://ingest.example.com`.
        api_key: An API key of the project.
        dataset: The dataset: `{"id": 13, "fields": {...}}`, a `Dataset`, or a model with `__dataset_id__`.
        transport: An async transport of httpx, for proxies, certificates or tests.
        options: See `Options`.
    """

    _http: httpx.AsyncClient

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        dataset: Dataset | Mapping[str, Any] | type,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        self._transport = transport
        super().__init__(base_url=base_url, api_key=api_key, dataset=dataset, **options)

    def _begin(self) -> None:
        super()._begin()
        # `_changed` is set when records were settled, and `_due` when a task must look at the buffer again. Each event
        # is set only once. Directly before that, a new event takes its place.
        self._changed = asyncio.Event()
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._http = httpx.AsyncClient(transport=self._transport, **self._http_options)

    # -- sending

    async def send(self, records: Any) -> Receipt:
        """Send a record, or a list of records, and return the receipt. See `DatasetIngestClient.send`."""
        receipt = await self._run(self._sending(records))
        self._receipts.extend(receipt.locations)
        return receipt

    async def enqueue(self, record: Any) -> asyncio.Future[Receipt]:
        """Put a record into the buffer, and return the future of its delivery. A task sends it in a batch.

        If there is a spool, the record is in the spool when this function returns.

        Raises:
            ValidationError: The record does not match the schema.
            BufferFullError: The buffer is full, and `on_overflow` is "error".
            ClosedError: The client is closed.
        """
        future = asyncio.get_running_loop().create_future()
        item = _Enqueued(self._encode(record), future=future, is_told=self.options.on_error is not None)
        self._check_open()
        if not self._buffer.has_room(len(item.text)):
            await self._wait_for_room(len(item.text))
        if self._spool:
            self._spool.add(item)
        if self._buffer.add(item, time.monotonic()):
            self._wake()
        if len(self._tasks) < self.options.connections:
            self._start()
        return future

    async def _wait_for_room(self, size: int) -> None:
        if self.options.on_overflow == "error":
            raise self._full()
        await self._wait(lambda: self._closed or self._buffer.has_room(size))
        self._check_open()

    async def flush(self, until: Literal["accepted", "stored"] = "accepted", timeout: float | None = None) -> None:
        """Send all records that were enqueued before, and wait until the service has answered.

        See `DatasetIngestClient.flush`.
        """
        check_until(until)
        try:
            await asyncio.wait_for(self._flushed(until), timeout)
        except asyncio.TimeoutError:  # in Python 3.10, this is not the class TimeoutError
            raise TimeoutError("The service has not answered in time. The records are still being delivered.") from None

    async def _flushed(self, until: str) -> None:
        number = self._buffer.flush()
        self._wake()
        await self._wait(lambda: self._buffer.is_settled(number))
        self._raise_failure()
        if until == "stored":
            await self._run(self._storing())

    async def close(self, timeout: float | None = None) -> None:
        """Send what is in the buffer, and accept no more records. See `DatasetIngestClient.close`."""
        if self._closed:
            return
        self._closed = True
        number = self._buffer.flush()
        self._wake()
        seconds = self.options.close_timeout if timeout is None else timeout
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wait(lambda: self._buffer.is_settled(number)), seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._settle_left(*self._buffer.abandon())
        await self._http.aclose()
        self._raise_failure()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except DatasetError:
            if kind is None:  # if the block has raised an error, raise that error, and not this one
                raise

    def _at_exit(self) -> None:
        """Send the records that the event loop did not send, if there is time, and if there is no `transport`.

        Batches that the event loop was sending keep their Idempotency-Keys.
        """
        self._closed = True
        deadline = time.monotonic() + self.options.close_timeout
        waiting, sending = self._buffer.abandon()
        batches = [*sending, *within_limits(waiting)]
        if self._transport is None and batches:
            with httpx.Client(**self._http_options) as http, contextlib.suppress(ClosedError):
                while batches:
                    drive(self._spooling.deliver(batches[0], self._tell), lambda step: _take(http, step, deadline))
                    batches.pop(0)
        self._settle_left([], batches)
        self._log_failure()

    # -- tasks

    def _start(self) -> None:
        """Start tasks until `connections` tasks run."""
        self._keep()
        while len(self._tasks) < self.options.connections:
            task = asyncio.create_task(self._work())
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    async def _work(self) -> None:
        """Deliver batches until the client is closed."""
        while True:
            batch = self._left.pop(0) if self._left else self._buffer.take(time.monotonic())
            if batch is None:
                await self._until_due(self._buffer.due_in(time.monotonic()))
                continue
            await self._deliver(batch)
            self._buffer.done(batch)
            self._notify()

    async def _until_due(self, seconds: float | None) -> None:
        """Wait until a task must look at the buffer again, or until `seconds` have passed."""
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake)
        try:
            await self._due.wait()
        finally:
            if timer:
                timer.cancel()

    async def _deliver(self, batch: Batch) -> None:
        try:
            await self._run(self._spooling.deliver(batch, self._tell))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # for example, the disk is full: settle the records, and end the task
            self._settle_all(batch.items, self._broken(error))
            self._buffer.done(batch)
            raise

    def _tell(self, outcome: Outcome, items: Sequence[Item]) -> None:
        super()._tell(outcome, items)
        self._notify()

    async def _run(self, steps: Steps[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            reply = await self._take(step)

    async def _take(self, step: Step) -> Reply:
        if isinstance(step, Request):
            try:
                return answered(await self._http.send(self._httpx_request(step)))
            except httpx.HTTPError as error:
                return failed(error)
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        else:
            await asyncio.to_thread(step.call)
        return None

    async def _wait(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _wake(self) -> None:
        due, self._due = self._due, asyncio.Event()
        due.set()


def _take(http: httpx.Client, step: Step, deadline: float) -> Reply:
    """Take a step without an event loop. Raise ClosedError after the deadline."""
    if time.monotonic() > deadline:
        raise ClosedError("The program is ending.")
    if isinstance(step, Request):
        try:
            return answered(http.send(httpx_request(http, step)))
        except httpx.HTTPError as error:
            return failed(error)
    if isinstance(step, Pause):
        time.sleep(max(0.0, min(step.seconds, deadline - time.monotonic())))
    else:
        step.call()
    return None
