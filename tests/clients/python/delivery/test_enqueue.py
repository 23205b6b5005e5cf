"""`enqueue`, `flush` and `close` with the service in this process: the outcome of each record."""

import threading
import time
from contextlib import suppress

import httpx
import pytest
from dataset_ingest import (
    AuthenticationError,
    BufferFullError,
    ClosedError,
    OutcomeUnknownError,
    Receipt,
    ValidationError,
)
from dataset_ingest.delivery.batches import Item
from dataset_ingest.delivery.buffer import Buffer
from dataset_ingest.options import Options
from pytest_django import Settings

from datasets import services
from datasets.models import ApiKey, Dataset
from datasets.schemas.fields import Field
from ingest.storing.ledger import balance
from tests.clients.python.conftest import FIELDS, MakeClient
from tests.clients.python.seen import Seen, plain, refuse
from tests.conftest import record, stored
from tests.support.servers.outages import redis_away


def test_enqueued_records_are_sent_in_batches_without_a_flush(make_client: MakeClient, dataset: Dataset) -> None:
    seen = Seen()
    client = make_client(transport=seen, max_batch_records=10, connections=1)
    deliveries = [client.enqueue(record(amount=float(number))) for number in range(25)]
    assert [delivery.result(5).count for delivery in deliveries] == [10] * 20 + [5] * 5
    assert seen.records() == [10, 10, 5]
    assert [row["amount"] for row in stored(dataset)] == [float(number) for number in range(25)]


def test_a_batch_has_at_most_the_bytes_of_the_option(make_client: MakeClient) -> None:
    seen = Seen()
    client = make_client(transport=seen, max_batch_bytes=1000)
    for _ in range(10):
        client.enqueue(record(plan="x" * 200))
    client.flush()
    assert sum(seen.records()) == 10
    assert max(len(plain(request)) for request in seen.requests) <= 1010


def test_flush_waits_until_everything_before_it_is_answered(make_client: MakeClient, dataset: Dataset) -> None:
    client = make_client(flush_interval=60)
    deliveries = [client.enqueue(record()) for _ in range(3)]
    assert not deliveries[0].done()
    client.flush()
    assert all(delivery.done() for delivery in deliveries)
    assert balance(dataset).accepted == 3


def test_flush_until_stored_waits_for_the_table(make_client: MakeClient, dataset: Dataset) -> None:
    client = make_client()
    client.enqueue(record())
    with pytest.raises(TimeoutError):
        client.flush("stored", timeout=0.3)
    assert len(stored(dataset)) == 1
    client.flush("stored", timeout=10)


def test_flush_raises_the_first_error_and_the_deliveries_have_theirs(make_client: MakeClient, key: ApiKey) -> None:
    client = make_client(flush_interval=60)
    delivery = client.enqueue(record())
    services.revoke_key(key)
    with pytest.raises(AuthenticationError):
        client.flush()
    assert isinstance(delivery.exception(0), AuthenticationError)
    client.flush()


def test_an_invalid_record_is_refused_when_it_is_enqueued(make_client: MakeClient) -> None:
    client = make_client()
    with pytest.raises(ValidationError):
        client.enqueue(record(active=1))
    client.flush()


def test_the_good_records_of_a_refused_batch_are_accepted(make_client: MakeClient, dataset: Dataset) -> None:
    """The schema of the service is stricter than the client's schema, as after a change."""
    fields = [
        Field("amount", "number", maximum=10) if each == "amount" else Field(each, FIELDS[each]) for each in FIELDS
    ]
    client = make_client(flush_interval=60)
    services.save_dataset(dataset, fields=fields)
    amounts = [1.0, 11.0, 2.0, *[12.0] * 25, 3.0]
    deliveries = [client.enqueue(record(amount=amount)) for amount in amounts]
    with pytest.raises(ValidationError):
        client.flush()
    errors = [delivery.exception(0) for delivery in deliveries]
    assert [error is None for error in errors] == [amount < 10 for amount in amounts]
    error = errors[1]
    assert isinstance(error, ValidationError)
    assert [(each.field, each.index, each.detail) for each in error.problems] == [("amount", 0, "It is more than 10.")]
    assert [row["amount"] for row in stored(dataset)] == [1.0, 2.0, 3.0]


def test_a_batch_that_is_too_large_is_halved(make_client: MakeClient, settings: Settings, dataset: Dataset) -> None:
    settings.MAX_BATCH_RECORDS = 3
    client = make_client(flush_interval=60)
    deliveries = [client.enqueue(record()) for _ in range(10)]
    client.flush()
    assert {delivery.result(0).count for delivery in deliveries} <= {2, 3}
    assert balance(dataset).accepted == 10


def test_records_wait_while_redis_is_away(make_client: MakeClient, dataset: Dataset) -> None:
    client = make_client(max_backoff=0.2)
    with redis_away():
        delivery = client.enqueue(record())
        with pytest.raises(TimeoutError):
            client.flush(timeout=0.3)
        assert not delivery.done()
    assert delivery.result(20).count == 1
    assert len(stored(dataset)) == 1


def test_a_full_buffer_is_an_error(make_client: MakeClient) -> None:
    with redis_away():
        client = make_client(max_buffered_bytes=300)
        client.enqueue(record())
        with pytest.raises(BufferFullError):
            client.enqueue(record())


def test_a_full_buffer_may_let_the_program_wait(make_client: MakeClient, dataset: Dataset) -> None:
    client = make_client(max_buffered_bytes=1000, on_overflow="block", flush_interval=0.01)
    for _ in range(50):
        client.enqueue(record())
    client.flush()
    assert balance(dataset).accepted == 50


def test_hooks_and_callbacks_get_each_outcome(make_client: MakeClient, key: ApiKey) -> None:
    accepted: list[Receipt] = []
    errors: list[tuple[str | None, int]] = []
    done: list[object] = []
    client = make_client(
        on_accepted=accepted.append, on_error=lambda error, records: errors.append((error.code, len(records)))
    )
    client.enqueue(record()).add_done_callback(done.append)
    client.flush()
    services.revoke_key(key)
    client.enqueue(record()).add_done_callback(done.append)
    client.flush()  # this does not raise the error, because the hook has got it
    assert ([each.count for each in accepted], errors) == ([1], [("invalid_api_key", 1)])
    assert len(done) == 2


def test_a_hook_that_fails_stops_nothing(make_client: MakeClient, dataset: Dataset) -> None:
    def fail(receipt: Receipt) -> None:
        raise RuntimeError("a defect")

    client = make_client(on_accepted=fail)
    client.enqueue(record())
    with pytest.warns(RuntimeWarning, match="a defect"):
        client.flush()
    client.enqueue(record())
    client.flush()
    assert balance(dataset).accepted == 2


def test_the_first_record_and_each_full_batch_wake_a_thread() -> None:
    buffer = Buffer(Options(max_batch_records=3))
    assert [buffer.add(Item(b"{}"), 0.0) for _ in range(7)] == [True, False, True, False, False, False, False]
    for _ in range(2):
        assert len(buffer.take(0.0) or ()) == 3
    assert [buffer.add(Item(b"{}"), 0.0) for _ in range(2)] == [False, True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_failed_is_replaced_while_records_wait(make_client: MakeClient) -> None:
    begun, may_fail = threading.Event(), threading.Event()

    def fail_once(request: httpx.Request) -> None:
        if not begun.is_set():
            begun.set()
            may_fail.wait(10)
            raise RuntimeError("a defect")

    client = make_client(transport=Seen(fail_once), max_batch_records=5, connections=1, flush_interval=60)
    first, *_, waiting = [client.enqueue(record()) for _ in range(10)]
    begun.wait(10)
    may_fail.set()
    assert isinstance(first.exception(5), OutcomeUnknownError)
    for _ in range(100):
        with suppress(TimeoutError):
            client.enqueue(record())
            waiting.result(0.05)
    assert waiting.result(0).count == 5
    with pytest.raises(OutcomeUnknownError):
        client.flush()


def test_many_threads_may_use_one_client(make_client: MakeClient, dataset: Dataset) -> None:
    client = make_client(max_batch_records=20)

    def work() -> None:
        for _ in range(50):
            client.enqueue(record())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.flush()
    assert balance(dataset).accepted == 200


# -- close ----------------------------------------------------------------------------------------------


def test_close_sends_what_is_buffered_and_takes_no_more(make_client: MakeClient, dataset: Dataset) -> None:
    with make_client(flush_interval=60) as client:
        delivery = client.enqueue(record())
    assert delivery.result(0).count == 1
    assert balance(dataset).accepted == 1
    for use in (client.enqueue, client.send):
        with pytest.raises(ClosedError):
            use(record())


def test_close_settles_what_cannot_be_sent(make_client: MakeClient) -> None:
    client = make_client(transport=Seen(refuse), max_batch_records=2, connections=1, flush_interval=60)
    deliveries = [client.enqueue(record()) for _ in range(5)]
    began = time.monotonic()
    with pytest.raises((ClosedError, OutcomeUnknownError)):
        client.close(timeout=0.2)
    assert time.monotonic() - began < 5
    kinds = {type(delivery.exception(0)) for delivery in deliveries}
    assert ClosedError in kinds
    assert kinds <= {ClosedError, OutcomeUnknownError}


def test_the_error_of_a_with_block_is_not_hidden(make_client: MakeClient) -> None:
    def fail() -> None:
        with make_client(transport=Seen(refuse), close_timeout=0.1) as client:
            client.enqueue(record())
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_an_error_without_a_caller_is_logged(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client = make_client(api_key="wrong")
    client.enqueue(record())
    # The block ends with another error. A program that ends without `close` has no caller for the error either.
    client.__exit__(KeyError, KeyError(), None)
    assert "Records that were enqueued were not accepted: Invalid API key" in caplog.text
