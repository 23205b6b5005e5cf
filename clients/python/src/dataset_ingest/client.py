"""The client for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx

from dataset_ingest.base import Client, answered, check_until, failed
from dataset_ingest.delivery.batches import Batch, Item, Outcome
from dataset_ingest.delivery.steps import Pause, Reply, Request, Step, Steps, drive
from dataset_ingest.errors import ClosedError, DatasetError
from dataset_ingest.receipts import Receipt
from dataset_ingest.schema.datasets import Dataset

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from dataset_ingest.options import OptionArguments

T = TypeVar("T")


class Delivery(Item, eq=False, kw_only=True):
    """The delivery of an enqueued record. Its methods are those of `concurrent.futures.Future`."""

    _lock: threading.RLock
    _changed: threading.Condition
    _outcome: Outcome | None = None
    _callbacks: list[Callable[[Delivery], object]] | None = None

    def done(self) -> bool:
        """Return whether the service has answered, or the client makes no further attempt."""
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> Receipt:
        """Return the receipt of the batch that has the record. Raise the record's error, or TimeoutError."""
        outcome = self._wait(timeout)
        if isinstance(outcome, Receipt):
            return outcome
        raise outcome

    def exception(self, timeout: float | None = None) -> DatasetError | None:
        """Return the error, or None if the record was accepted. Raises TimeoutError."""
        outcome = self._wait(timeout)
        return outcome if isinstance(outcome, DatasetError) else None

    def add_done_callback(self, callback: Callable[[Delivery], object]) -> None:
        """Call a function with this delivery when it is done."""
        with self._lock:
            if self._outcome is None:
                self._callbacks = [*(self._callbacks or ()), callback]
                return
        callback(self)

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome, unless it is already set."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
            callbacks = self._callbacks
        if callbacks:
            self._callbacks = None
            for callback in callbacks:
                callback(self)

    def _wait(self, timeout: float | None) -> Outcome:
        with self._changed:
            self._changed.wait_for(self.done, timeout)
        if self._outcome is None:
            raise TimeoutError("The service has not answered in time. The record is still being delivered.")
        return self._outcome


class DatasetIngestClient(Client):
    """Sends records to a dataset. It may be used by several threads, and in processes that are forked.

    Args:
        base_url: The address of the service, like `https://ingest.example.com`.
        api_key: An API key of the project.
        dataset: The dataset: `{"id": 13, "fields": {...}}`, a `Dataset`, or a model with `__dataset_id__`.
        transport: A transport of httpx, for proxies, certificates or tests.
        options: See `Options`.
    """

    _http: httpx.Client

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        dataset: Dataset | Mapping[str, Any] | type,
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        self._transport = transport
        super().__init__(base_url=base_url, api_key=api_key, dataset=dataset, **options)

    def _begin(self) -> None:
        super()._begin()
        self._lock = threading.RLock()  # to acquire it directly is faster than to acquire it through a condition
        self._changed = threading.Condition(self._lock)  # notified when records were settled
        self._due = threading.Condition(self._lock)  # notified when a thread must look at the buffer again
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._http = httpx.Client(transport=self._transport, **self._http_options)
        if self._left:
            self._start()

    # -- sending

    def send(self, records: Any) -> Receipt:
        """Send a record, or a list of records, and return the receipt.

        The list becomes one request if it is within the limits of the service. If a record does not match the schema,
        nothing is sent.

        Raises:
            DatasetError: See the classes in `dataset_ingest.errors`. `indexes` says which records are affected.
        """
        receipt = self._run(self._sending(records))
        self._receipts.extend(receipt.locations)
        return receipt

    def enqueue(self, record: Any) -> Delivery:
        """Put a record into the buffer, and return its delivery. A thread of the client sends it in a batch.

        If there is a spool, the record is in the spool when this function returns.

        Raises:
            ValidationError: The record does not match the schema.
            BufferFullError: The buffer is full, and `on_overflow` is "error".
            ClosedError: The client is closed.
        """
        item = Delivery(self._encode(record), _lock=self._lock, _changed=self._changed)
        with self._lock:
            if self._closed or not self._buffer.has_room(len(item.text)):
                self._wait_for_room(len(item.text))
            if self._spool:
                self._spool.add(item)
            if self._buffer.add(item, time.monotonic()):
                self._due.notify_all()
            if len(self._threads) < self.options.connections:
                self._start()
        return item

    def _wait_for_room(self, size: int) -> None:
        self._check_open()
        if self.options.on_overflow == "error":
            raise self._full()
        self._changed.wait_for(lambda: self._closed or self._buffer.has_room(size))
        self._check_open()

    def flush(self, until: Literal["accepted", "stored"] = "accepted", timeout: float | None = None) -> None:
        """Send all records that were enqueued before, and wait until the service has answered.

        Args:
            until: With "stored", also wait until the accepted records are in the table.
            timeout: The number of seconds to wait. None: without a limit.

        Raises:
            ValueError: `until` is neither "accepted" nor "stored".
            DatasetError: Records were not accepted. This is the first error since the last flush. It is not raised if
                there is a hook `on_error`. Each delivery has its own error. With "stored": records are in quarantine,
                or the service refuses to say where they are.
            TimeoutError: The time was not enough. Nothing is lost: the client continues to send.
        """
        check_until(until)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            number = self._buffer.flush()
            self._due.notify_all()
            if not self._changed.wait_for(lambda: self._buffer.is_settled(number), timeout):
                raise TimeoutError("The service has not answered in time. The records are still being delivered.")
            self._raise_failure()
        if until == "stored":
            self._run(self._storing(), deadline)

    def close(self, timeout: float | None = None) -> None:
        """Send what is in the buffer, and accept no more records.

        Args:
            timeout: The number of seconds to wait for the service. The default is the option `close_timeout`.

        Raises:
            DatasetError: Records were not accepted. This is the first error since the last flush. It is not raised if
                there is a hook `on_error`. If the time was not enough, it is a ClosedError or an OutcomeUnknownError.
        """
        self._end(self.options.close_timeout if timeout is None else timeout)
        self._raise_failure()

    def _end(self, seconds: float) -> None:
        """Send what is in the buffer, for at most `seconds`, and end the threads."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            number = self._buffer.flush()
            self._due.notify_all()
            self._changed.wait_for(lambda: self._buffer.is_settled(number), seconds)
            self._stopping.set()
            left = self._buffer.abandon()
        self._settle_left(*left)
        with self._lock:
            self._due.notify_all()  # ends the threads
            self._changed.notify_all()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # the block has raised an error: do not replace it
            self._at_exit()

    def _at_exit(self) -> None:
        """Close the client. Log the errors that no hook has got, because no caller can get them."""
        self._end(self.options.close_timeout)
        self._log_failure()

    # -- threads

    def _start(self) -> None:
        """Start threads until `connections` threads run."""
        self._keep()
        while len(self._threads) < self.options.connections:
            thread = threading.Thread(target=self._work, name="dataset-ingest", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        """Deliver batches until the client is closed."""
        due, changed, buffer, stopping = self._due, self._changed, self._buffer, self._stopping
        try:
            while not stopping.is_set():
                with due:
                    batch = self._left.pop(0) if self._left else buffer.take(time.monotonic())
                    if batch is None:
                        due.wait(buffer.due_in(time.monotonic()))
                        continue
                self._deliver(batch)
                with changed:
                    buffer.done(batch)
                    changed.notify_all()
        except ClosedError:
            return
        finally:
            self._threads.remove(threading.current_thread())

    def _deliver(self, batch: Batch) -> None:
        try:
            self._run(self._spooling.deliver(batch, self._tell))
        except ClosedError:
            raise
        except BaseException as error:  # for example, the disk is full: settle the records, and end the thread
            self._settle_all(batch.items, self._broken(error))
            with self._changed:
                self._buffer.done(batch)
            raise

    def _tell(self, outcome: Outcome, items: Sequence[Item]) -> None:
        super()._tell(outcome, items)
        with self._changed:
            self._changed.notify_all()

    def _run(self, steps: Steps[T], deadline: float | None = None) -> T:
        """Take the steps. Raise ClosedError if the client is closed meanwhile, and TimeoutError after the deadline."""

        def take(step: Step) -> Reply:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError("The records are accepted, but not in the table yet.")
            return self._take(step)

        return drive(steps, take)

    def _take(self, step: Step) -> Reply:
        if isinstance(step, Request):
            try:
                return answered(self._http.send(self._httpx_request(step)))
            except httpx.HTTPError as error:
                return failed(error)
        if isinstance(step, Pause):
            if self._stopping.wait(step.seconds):
                raise ClosedError("The client was closed.", dataset_id=self.dataset.id)
        else:
            step.call()
        return None
