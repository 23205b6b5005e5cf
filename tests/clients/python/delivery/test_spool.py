"""The spool: which records the next client finds, and under which keys it sends them."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from dataset_ingest import AuthenticationError, ClosedError, DatasetError, OutcomeUnknownError
from dataset_ingest.delivery import sending
from dataset_ingest.spool import Spool

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.declarations import parse_fields
from ingest.storing.ledger import balance
from tests.clients.python.conftest import FIELDS, MakeClient
from tests.clients.python.seen import Seen, refuse
from tests.conftest import record, stored
from tests.support.sending.asgi import Transport


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def ignore(error: DatasetError, records: Any) -> None:
    """Ignore the error, because the spool has the records."""


def end(client: Any) -> None:
    """Close a client that cannot send."""
    client.close(timeout=0.05)


def test_the_next_client_sends_what_the_last_one_left(make_client: MakeClient, dataset: Dataset, spool: Path) -> None:
    first = make_client(spool=spool, transport=Seen(refuse), on_error=ignore, max_batch_records=10)
    for number in range(25):
        first.enqueue(record(amount=float(number)))
    end(first)
    assert len(list(spool.iterdir())) == 1
    second = make_client(spool=spool)
    second.flush()
    second.close()
    assert sorted(row["amount"] for row in stored(dataset)) == [float(number) for number in range(25)]
    assert list(spool.iterdir()) == []


def test_a_batch_whose_answer_was_lost_is_sent_under_its_key(
    make_client: MakeClient, dataset: Dataset, spool: Path
) -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        Transport.handle_request(seen, request)
        raise httpx.ReadError("the connection broke")

    seen = Seen(lose)
    first = make_client(spool=spool, transport=seen, on_error=ignore, max_backoff=0.01)
    deliveries = [first.enqueue(record()) for _ in range(3)]
    while not seen.requests:
        pass
    end(first)
    assert isinstance(deliveries[0].exception(0), OutcomeUnknownError)
    again = Seen()
    second = make_client(spool=spool, transport=again)
    second.flush()
    assert {*again.keys()} == {*seen.keys()}
    assert balance(dataset).accepted == 3


def test_a_live_client_keeps_its_records(make_client: MakeClient, spool: Path, dataset: Dataset) -> None:
    first = make_client(spool=spool, flush_interval=60)
    first.enqueue(record())
    second = make_client(spool=spool)
    second.flush()
    assert balance(dataset).accepted == 0
    first.flush()
    assert balance(dataset).accepted == 1


def test_refused_records_are_written_to_a_file(make_client: MakeClient, key: ApiKey, spool: Path) -> None:
    client = make_client(spool=spool, flush_interval=60)
    client.enqueue(record(country="RO"))
    services.revoke_key(key)
    with pytest.raises(AuthenticationError):
        client.flush()
    client.close()
    (line,) = (spool / "refused.ndjson").read_text().splitlines()
    told = json.loads(line)
    assert (told["code"], told["record"]["country"]) == ("invalid_api_key", "RO")
    assert [path.name for path in spool.iterdir()] == ["refused.ndjson"]


def test_a_batch_is_not_repeated_after_the_service_has_forgotten_its_key(
    make_client: MakeClient, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("the connection broke")

    first = make_client(spool=spool, transport=Seen(lose), on_error=ignore)
    delivery = first.enqueue(record())
    end(first)
    assert isinstance(delivery.exception(0), (ClosedError, OutcomeUnknownError))
    monkeypatch.setattr(sending, "MAX_KEY_SECONDS", -1.0)
    errors: list[DatasetError] = []
    seen = Seen()
    second = make_client(spool=spool, transport=seen, on_error=lambda error, records: errors.append(error))
    second.flush()
    assert [type(error) for error in errors] == [OutcomeUnknownError]
    assert seen.requests == []
    assert (spool / "refused.ndjson").exists()


def test_two_files_with_the_same_batch_are_sent_once(make_client: MakeClient, dataset: Dataset, spool: Path) -> None:
    """A client was killed while it took over the file of another one."""
    first = make_client(spool=spool, transport=Seen(refuse), on_error=ignore)
    first.enqueue(record())
    end(first)
    (left,) = spool.iterdir()
    taking = Spool(spool, dataset.pk)
    copy = left.read_bytes()
    assert len(taking.take_over(10)) == 1
    taking.close()
    (spool / f"{dataset.pk}-again.spool").write_bytes(copy)
    client = make_client(spool=spool)
    client.flush()
    assert balance(dataset).accepted == 1


def test_clients_of_two_datasets_may_share_a_spool(
    make_client: MakeClient, dataset: Dataset, project: Project, spool: Path
) -> None:
    other = services.create_dataset(project=project, name="Other", fields=parse_fields({"fields": FIELDS}))
    first = make_client(spool=spool, transport=Seen(refuse), on_error=ignore)
    first.enqueue(record())
    end(first)
    second = make_client(spool=spool, dataset={"id": other.pk, "fields": FIELDS})
    second.enqueue(record())
    second.close()
    assert (balance(other).accepted, balance(dataset).accepted) == (1, 0)
    third = make_client(spool=spool)
    third.close()
    assert balance(dataset).accepted == 1
    assert list(spool.iterdir()) == []


def test_the_file_of_refused_records_says_which_may_be_accepted(
    make_client: MakeClient, key: ApiKey, dataset: Dataset, spool: Path
) -> None:
    def accept_and_lose(request: httpx.Request) -> httpx.Response | None:
        if len(seen.requests) > 1:
            return None
        Transport.handle_request(seen, request)
        services.revoke_key(key)
        raise httpx.ReadError("the connection broke")

    seen = Seen(accept_and_lose)
    client = make_client(spool=spool, transport=seen, on_error=ignore)
    for number in range(2):
        client.enqueue(record(amount=float(number)))
        client.flush()
    client.close()
    told = [json.loads(line) for line in (spool / "refused.ndjson").read_text().splitlines()]
    assert [(each["record"]["amount"], each["may_be_accepted"]) for each in told] == [(0, True), (1, False)]
    assert {each["dataset_id"] for each in told} == {dataset.pk}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_refused_record_is_not_sent_by_the_next_client(make_client: MakeClient, key: ApiKey, spool: Path) -> None:
    """The first client ends after the refusal, and before the record is in the file of refused records."""
    first = make_client(spool=spool, flush_interval=60, on_error=ignore)
    delivery = first.enqueue(record())
    (spool / "refused.ndjson").mkdir()  # so the file of refused records cannot be written
    services.revoke_key(key)
    first.flush()
    assert isinstance(delivery.exception(0), OutcomeUnknownError)
    first.close()
    (spool / "refused.ndjson").rmdir()
    seen = Seen()
    second = make_client(
        spool=spool, transport=seen, api_key=issue_token(services.create_key(project=key.project, name="b"))
    )
    second.close()
    assert seen.requests == []
    (line,) = (spool / "refused.ndjson").read_text().splitlines()
    assert json.loads(line)["code"] == "invalid_api_key"
    assert [path.name for path in spool.iterdir()] == ["refused.ndjson"]
