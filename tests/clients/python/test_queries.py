"""`DatasetQueryClient` and the commands that use it, against the service in this process."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dataset_ingest.commands
import pytest
from dataset_ingest import AuthenticationError, DatasetError, DatasetQueryClient
from dataset_ingest.cli import main
from dataset_ingest.queries.builder import avg, bucket, count, max_
from django.contrib.auth.models import User
from pytest_django import Settings

from datasets import personal_tokens, services
from datasets.models import Dataset, Project
from tests.conftest import RECORD, Api, record, stored
from tests.support.sending.asgi import Transport

FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}


@pytest.fixture
def token(owner: User) -> str:
    owner.is_staff = True
    services.save_user(owner, changed=["is_staff"])
    return personal_tokens.create(user=owner, name="tests")[1]


@pytest.fixture
def client(project: Project, token: str) -> Iterator[DatasetQueryClient]:
    with DatasetQueryClient(
        base_url="http://testserver", token=token, project=project.slug, transport=Transport()
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def patience(settings: Settings) -> None:
    """Let queries take long: they run with a low priority, so other tests delay them."""
    settings.QUERY_TIMEOUT_SECONDS = 60.0


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(client: DatasetQueryClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command, and returns its exit code and what it has printed."""
    monkeypatch.setattr(dataset_ingest.commands, "_client", lambda options: client)

    def run_command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(client, "close", lambda: None)
        return main(arguments), capsys.readouterr().out

    return run_command


def test_datasets_are_created_changed_and_listed(client: DatasetQueryClient) -> None:
    made = client.create_dataset("Orders", description="from the shop")
    assert (made["slug"], made["status"]) == ("orders", "pending_schema")
    assert client.update_dataset(made["id"], name="All orders")["name"] == "All orders"
    assert client.dataset(made["id"])["description"] == "from the shop"
    assert [each["name"] for each in client.datasets()] == ["All orders"]


def test_a_schema_is_published_only_if_it_differs(client: DatasetQueryClient) -> None:
    dataset_id = client.create_dataset("Orders")["id"]
    assert client.schema(dataset_id) is None
    fields = {"amount": "number", "state": {"type": "enum", "values": ["a", "b"]}, "note": "string?"}
    assert client.register({"id": dataset_id, "fields": fields})["version"] == 1
    assert client.register({"id": dataset_id, "fields": fields})["version"] == 1
    assert client.register({"id": dataset_id, "fields": {**fields, "more": "date?"}})["version"] == 2
    assert (client.schema(dataset_id) or {})["fields"] == {**fields, "more": "date?"}


def test_a_key_is_created_listed_and_revoked(client: DatasetQueryClient) -> None:
    made = client.create_key("shop")
    assert made["token"]
    client.revoke_key(made["id"])
    assert [(each["name"], each["state"]) for each in client.api_keys()] == [("shop", "revoked")]


def test_a_query_groups_filters_and_sorts(client: DatasetQueryClient, api: Api, dataset: Dataset) -> None:
    amounts = [("RO", 10), ("RO", 30), ("DE", 50), ("DE", 70), ("FR", 5)]
    api.batch([record(country=country, amount=amount) for country, amount in amounts])
    stored(dataset)
    june = ("2026-06-01T00:00:00Z", datetime(2026, 7, 1, tzinfo=UTC))
    orders = client.from_({"id": dataset.pk, "fields": FIELDS}).range(*june)
    result = (
        orders.select("country", count().as_("events"), avg("amount"), max_("amount").as_("most"))
        .where("amount", ">", 5)
        .group_by("country")
        .order_by("most", "desc")
        .limit(2)
        .run()
    )
    assert [dict(row) for row in result.rows] == [
        {"country": "DE", "events": 2, "avg_amount": 60.0, "most": 70.0},
        {"country": "RO", "events": 2, "avg_amount": 20.0, "most": 30.0},
    ]
    assert not result.truncated
    days = orders.select(bucket("day"), count()).group_by("day").run()
    assert [dict(row) for row in days.rows] == [{"day": "2026-06-10T00:00:00Z", "count": 5}]
    first = orders.select("amount").order_by("amount").limit(3).run()
    assert first.cursor
    rest = orders.select("amount").order_by("amount").limit(3).after(first.cursor).run()
    assert [row["amount"] for row in (*first.rows, *rest.rows)] == [5, 10, 30, 50, 70]


def test_a_wrong_query_says_where(client: DatasetQueryClient, dataset: Dataset) -> None:
    with pytest.raises(DatasetError) as caught:
        client.from_(dataset.pk).where("amount", "contains", 1).run()
    assert (caught.value.status, caught.value.body["at"]) == (400, "where[0].op")
    assert "Invalid query: where[0].op: The operator for “amount” (number) is not known here." in str(caught.value)


def test_a_wrong_schema_says_why(client: DatasetQueryClient, dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"Invalid request: .*there is no type “text”"):
        client.publish(dataset.pk, {"a": "text"})


def test_a_wrong_token_is_an_authentication_error(project: Project) -> None:
    with (
        DatasetQueryClient(
            base_url="http://testserver", token="pat_x", project="billing", transport=Transport()
        ) as made,
        pytest.raises(AuthenticationError),
    ):
        list(made.datasets())


def test_the_commands_manage_datasets_and_schemas(run: Run, tmp_path: Path) -> None:
    code, printed = run("datasets", "--create", "Orders")
    dataset_id = printed.strip()
    file = tmp_path / "orders.json"
    file.write_text('{"fields": {"amount": "number"}}')
    assert run("schema", "push", dataset_id, str(file)) == (0, "Version 1 is in force.\n")
    assert run("schema", "diff", dataset_id, str(file)) == (0, "The file has the schema in force.\n")
    file.write_text('{"fields": {"amount": "number", "note": "string?"}}')
    code, printed = run("schema", "diff", dataset_id, str(file))
    assert code == 3
    assert '+    "note": "string?"' in printed
    assert run("schema", "pull", dataset_id, str(file)) == (0, "")
    assert json.loads(file.read_text()) == {"fields": {"amount": "number"}}
    assert "Orders" in run("datasets")[1]
    assert run("keys", "--create", "shop")[1].count(".") == 2  # a signed token
    assert "shop" in run("keys")[1]


def test_the_commands_read_records(run: Run, api: Api, dataset: Dataset) -> None:
    api.batch([record(amount=amount) for amount in (1, 2)])
    stored(dataset)
    query = '{"range": {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}, "select": [{"field": "amount"}]}'
    assert run("query", str(dataset.pk), query, "--format", "csv") == (0, "amount\n1.0\n2.0\n")
    code, printed = run(
        "tail", str(dataset.pk), "--seconds", "0.1", "--interval", "0", "--since", "2026-01-01T00:00:00Z"
    )
    told = [json.loads(line) for line in printed.splitlines()]
    assert (code, [each["amount"] for each in told]) == (0, [1.0, 2.0])
    assert told[0]["context"] == RECORD["context"]


def test_tail_shows_more_records_than_a_page_has(
    run: Run, api: Api, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_ingest.commands, "_MAX_ROWS", 2)
    api.batch([record(amount=amount) for amount in range(5)])
    stored(dataset)
    _, printed = run("tail", str(dataset.pk), "--seconds", "0", "--since", "2026-01-01T00:00:00Z")
    assert [json.loads(line)["amount"] for line in printed.splitlines()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("command", ["", "import", "tail", "query", "datasets", "schema", "keys"])
def test_help_explains_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert "usage: dataset-ingest" in capsys.readouterr().out
