"""What the sync and the async client have in common: everything except threads, tasks and connections."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import warnings
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx

from dataset_ingest.delivery.asking import until_stored
from dataset_ingest.delivery.batches import (
    MAX_BYTES,
    MAX_RECORDS,
    Batch,
    Item,
    Outcome,
    WholeBatch,
    within_limits,
)
from dataset_ingest.delivery.buffer import Buffer
from dataset_ingest.delivery.sending import Sender
from dataset_ingest.delivery.steps import Answer, NoAnswer, Request, Steps
from dataset_ingest.errors import BufferFullError, ClosedError, DatasetError, OutcomeUnknownError, ValidationError
from dataset_ingest.options import Options, address_of, authorization_of
from dataset_ingest.receipts import Receipt
from dataset_ingest.schema.datasets import Dataset
from dataset_ingest.schema.problems import MAX_PROBLEMS, Problem
from dataset_ingest.schema.records import Refused
from dataset_ingest.spool import Spool
from dataset_ingest.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from dataset_ingest.options import OptionArguments

# Records are stored in the order of acceptance. So if the records of the last receipts are stored, all earlier records
# are stored, too.
_MAX_RECEIPTS = 100
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


_log = logging.getLogger("dataset_ingest")

# The open clients of this process. A client that has enqueued a record stays in `_enqueuing` until it is closed.
_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_enqueuing: set[Client] = set()
# The HTTP clients of the parent process.
_of_parent: list[httpx.Client | httpx.AsyncClient] = []


@atexit.register
def _at_exit() -> None:
    for client in list(_enqueuing):
        client._at_exit()


def _after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Client:
    """The base of both clients."""

    _http: httpx.Client | httpx.AsyncClient

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        dataset: Dataset | Mapping[str, Any] | type,
        **options: Unpack[OptionArguments],
    ) -> None:
        self.dataset = Dataset.of(dataset)
        self.options = Options(**options)
        self._http_options: dict[str, Any] = {
            "base_url": address_of(base_url),
            "timeout": self.options.timeout,
            "headers": {
                "Authorization": authorization_of(api_key),
                "User-Agent": f"dataset-ingest-client/{__version__} Python/{platform.python_version()}",
            },
        }
        self._url = httpx.URL(self._http_options["base_url"] + self.dataset.path)
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """Begin with an empty buffer: in a new client, and in the child process after a fork."""
        self._buffer = Buffer(self.options)
        self._closed = False
        self._receipts: deque[str] = deque(maxlen=_MAX_RECEIPTS)
        self._failure: DatasetError | None = None  # the first error since the last flush
        self._spool = None if self.options.spool is None else Spool(self.options.spool, self.dataset.id)
        self._sender = Sender(self.dataset.path, self.dataset.id, self.options)
        self._spooling = replace(self._sender, journal=self._spool)
        # The batches that earlier clients have left in the spool.
        self._left = self._spool.take_over(self.options.max_batch_records) if self._spool else []
        for batch in self._left:
            self._buffer.restore(batch)

    def _after_fork(self) -> None:
        """Begin again in the child process after a fork. The parent sends the records that are in its buffer.

        The child does not use or close the connections that it shares with its parent.
        """
        _of_parent.append(self._http)
        if self._spool:
            self._spool.leave_to_parent()
        self._begin()

    def _keep(self) -> None:
        """Keep a reference to the client until it is closed, because it has records to send."""
        _enqueuing.add(self)

    def _at_exit(self) -> None:
        """Send what is in the buffer when the program ends without `close`."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("The client is closed.", dataset_id=self.dataset.id)

    def _encode(self, record: Any) -> bytes:
        """Return a record as JSON text. Raise ValidationError if it does not match the schema."""
        try:
            return self.dataset.records.encode(record)
        except Refused as refused:
            raise self._invalid([replace(each, index=0) for each in refused.problems]) from None

    def _invalid(self, problems: Sequence[Problem]) -> ValidationError:
        shown = problems[:MAX_PROBLEMS]
        return ValidationError(
            str(shown[0]),
            problems=shown,
            truncated=len(problems) > MAX_PROBLEMS,
            code=shown[0].code,
            dataset_id=self.dataset.id,
            indexes=sorted({each.index or 0 for each in shown}),
        )

    def _sending(self, records: Any) -> Steps[Receipt]:
        """Return the steps of `send`. Raise ValidationError if a record does not match the schema."""
        self._check_open()
        many = records if isinstance(records, (list, tuple)) else [records]
        if not many:
            raise ValueError("There are no records to send.")
        text = self.dataset.records.encode_many(many) if len(many) <= MAX_RECORDS else None
        if text is not None and len(text) <= MAX_BYTES:
            return self._sender.send([WholeBatch(text, len(many))])
        problems: list[Problem] = []
        items: list[Item] = []
        for index, record in enumerate(many):
            try:
                items.append(Item(self.dataset.records.encode(record), index))
            except Refused as refused:
                problems += [replace(each, index=index) for each in refused.problems]
                if len(problems) > MAX_PROBLEMS:
                    break
        if problems:
            raise self._invalid(problems)
        return self._sender.send(list(within_limits(items)))

    def _httpx_request(self, request: Request) -> httpx.Request:
        """Return a request as httpx sends it."""
        http = self._http
        if request.path != self.dataset.path or http.cookies:
            return httpx_request(http, request)
        # httpx_request returns the same, but needs four times as long, because it merges addresses and cookies.
        own = [(name.encode(), value.encode()) for name, value in request.headers.items()]
        return httpx.Request(
            request.method,
            self._url,
            headers=[*http.headers.raw, *own],
            content=request.content,
            extensions={"timeout": http.timeout.as_dict()},
        )

    def _full(self) -> BufferFullError:
        limit = self.options.max_buffered_bytes
        text = f"The buffer of {limit:,} bytes is full: the service does not answer, or is too slow."
        return BufferFullError(text, dataset_id=self.dataset.id, indexes=(0,))

    def _tell(self, outcome: Outcome, items: Sequence[Item]) -> None:
        """Keep the outcome of enqueued records for `flush`, and call the hooks."""
        try:
            if isinstance(outcome, DatasetError):
                if self.options.on_error:
                    self.options.on_error(outcome, [item.text for item in items])
                else:
                    self._failure = self._failure or outcome
            else:
                self._receipts.extend(outcome.locations)
                if self.options.on_accepted:
                    self.options.on_accepted(outcome)
        except Exception as error:  # noqa: BLE001  an error in a hook must not stop the delivery of other records
            warnings.warn(f"A hook of the client has failed: {error!r}", RuntimeWarning, stacklevel=2)

    def _raise_failure(self) -> None:
        """Raise the first error of enqueued records since the last flush, unless a hook got it."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _log_failure(self) -> None:
        """Log the first error of enqueued records since the last flush, because no caller can get it."""
        failure, self._failure = self._failure, None
        if failure is not None:
            _log.error("Records that were enqueued were not accepted: %s", failure)

    def _storing(self) -> Steps[None]:
        """Return the steps that wait until the accepted records are in the table."""
        return until_stored(list(self._receipts), self.dataset.id)

    def _settle_left(self, waiting: Sequence[Item], sending: Sequence[Batch]) -> None:
        """Settle the records that are left when the client ends. If there is a spool, the next client sends them."""
        kept = " The spool has kept them, and the next client sends them." if self._spool else ""
        if waiting:
            text = f"The client was closed before the records were sent.{kept}"
            self._settle_all(waiting, ClosedError(text, dataset_id=self.dataset.id, indexes=(0,)))
        if sending:
            text = f"The client was closed before the service confirmed the records.{kept}"
            unknown = OutcomeUnknownError(text, dataset_id=self.dataset.id, indexes=(0,))
            self._settle_all([item for batch in sending for item in batch.items], unknown)
        if self._spool:
            self._spool.close()
        _clients.discard(self)
        _enqueuing.discard(self)

    def _settle_all(self, items: Sequence[Item], error: DatasetError) -> None:
        for item in items:
            item.settle(error)
        self._tell(error, items)

    def _broken(self, error: BaseException) -> OutcomeUnknownError:
        text = f"The client failed while it was sending the records: {error!r}"
        return OutcomeUnknownError(text, dataset_id=self.dataset.id, indexes=(0,))


def check_until(until: str) -> None:
    """Raise ValueError unless `until` is a value that `flush` knows."""
    if until not in ("accepted", "stored"):
        raise ValueError(f'`until` must be "accepted" or "stored", not {until!r}.')


def httpx_request(http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    """Convert a request to a request of httpx."""
    return http.build_request(request.method, request.path, headers=dict(request.headers), content=request.content)


def answered(response: httpx.Response) -> Answer:
    """Convert a response of httpx to an answer."""
    return Answer(response.status_code, response.headers, response.content)


def failed(error: httpx.HTTPError) -> NoAnswer:
    """Convert an error of httpx to the reply that says why there is no answer."""
    return NoAnswer(str(error) or type(error).__name__, was_sent=not isinstance(error, _NOT_SENT))
