"""`create_project`, `create_dataset`, `create_key` and `create_demo`: what they print, create and refuse."""

import json
import os
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from datasets import services
from datasets.contracts.keys import read_token
from datasets.models import ApiKey, Dataset, Project
from datasets.schemas.field_types import FIELD_TYPES
from datasets.schemas.fields import Field
from tests.conftest import Api, record
from tests.support.servers.outages import redis_away

NO_SCHEMA = 'A schema is an object like {"fields": {"amount": "number"}}.'


def run(*arguments: str) -> str:
    """Return what a command prints to standard output."""
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def logs_in(username: str, password: str, client: Client | None = None) -> bool:
    """Return whether the user can log in to the admin."""
    form = {"username": username, "password": password}
    return (client or Client()).post("/admin/login/?next=/admin/", form).status_code == 302


def refusal(*arguments: str) -> str:
    """Return the error of a command that is refused."""
    out = StringIO()
    with pytest.raises(CommandError) as refused:
        call_command(*arguments, stdout=out, stderr=StringIO())
    assert out.getvalue() == ""
    return str(refused.value)


# -- create_project -----------------------------------------------------------------------------------


def test_create_project_prints_only_the_id(owner: User) -> None:
    printed = run("create_project", "shop", "--owner", "owner", "--name", "The shop")
    project = Project.objects.get(slug="shop")
    assert printed == f"{project.pk}\n"
    assert (project.owner, project.name) == (owner, "The shop")


def test_an_unknown_owner_is_created_without_a_password(transactional_db: None) -> None:
    out, err = StringIO(), StringIO()
    call_command("create_project", "shop", "--owner", "alice", stdout=out, stderr=err)
    alice = User.objects.get(username="alice")
    project = Project.objects.get()
    assert out.getvalue() == f"{project.pk}\n"
    assert "manage.py changepassword alice" in err.getvalue()
    assert (project.owner, alice.has_usable_password(), alice.is_superuser) == (alice, False, False)

    alice.set_password("what was promised")
    alice.save()
    client = Client()
    assert logs_in("alice", "what was promised", client)
    assert client.get(f"/admin/datasets/project/{project.pk}/change/").status_code == 200


def test_a_refused_project_creates_no_owner(project: Project) -> None:
    assert refusal("create_project", "billing", "--owner", "alice") == "Project with this Slug already exists."
    assert refusal("create_project", "a b", "--owner", "alice").count("Enter a valid “slug”") == 1
    assert "Enter a valid username" in refusal("create_project", "shop", "--owner", "not a name")
    assert refusal("create_project", "shop", "--owner", "") == "This field cannot be blank."
    assert (User.objects.count(), Project.objects.count()) == (1, 1)


# -- create_dataset -----------------------------------------------------------------------------------


def test_create_dataset_prints_only_the_id(project: Project, tmp_path: Path) -> None:
    schema = tmp_path / "orders.json"
    schema.write_text('{"fields": {"sku": "string", "price": "number"}}')
    printed = run("create_dataset", "billing", "Orders", "--schema", str(schema))
    dataset = Dataset.objects.get()
    assert printed == f"{dataset.pk}\n"
    assert dataset.versions.get().field_list() == [Field("sku", "string"), Field("price", "number")]
    assert run("create_dataset", "billing", "Without a schema") == f"{Dataset.objects.latest('pk').pk}\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{", 'This is not JSON: Line 1, column 2: a name in double quotes (") is expected.'),
        *((each, NO_SCHEMA) for each in ("[]", "[1]", '[{"name": "a", "type": "string"}]', "{}", "null")),
        *((f'{{"fields": {each}}}', NO_SCHEMA) for each in ("[]", '[{"name": "a", "type": "string"}]', '"a"', "null")),
        ('{"fields": {"a": "string", "a": "number"}}', "“a” is declared twice."),
        (
            '{"fields": {"id": "string", "a": "text"}}',
            "“id” is reserved: every record has it already.; "
            f"“a”: there is no type “text”. Types: {', '.join(FIELD_TYPES)}.",
        ),
    ],
)
def test_a_wrong_schema_is_explained_and_creates_nothing(
    project: Project, tmp_path: Path, written: str, said: str
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(written)
    assert refusal("create_dataset", "billing", "Orders", "--schema", str(schema)) == said
    assert Dataset.objects.count() == 0


def test_a_refused_dataset_is_explained(project: Project, tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    said = refusal("create_dataset", "billing", "Orders", "--schema", str(missing))
    assert said == f"There is no file {missing}. Write the schema to a file, and pass its path with --schema."
    assert refusal("create_dataset", "nothing", "Orders") == "There is no project “nothing”."
    run("create_dataset", "billing", "Orders")
    for name in ("Orders", "orders!"):
        assert (
            refusal("create_dataset", "billing", name)
            == "The project already has the dataset “Orders”. Choose another name."
        )
    with redis_away():
        assert "Redis does not answer" in refusal("create_dataset", "billing", "Others")
    assert Dataset.objects.count() == 1


# -- create_key ---------------------------------------------------------------------------------------


def test_create_key_prints_only_a_token_that_works(dataset: Dataset) -> None:
    printed = run("create_key", "billing", "--name", "checkout")
    token = printed.removesuffix("\n")
    assert token.split() == [token]
    key = ApiKey.objects.get()
    assert (read_token(token).token_id, key.name, key.expires_at) == (key.token_id, "checkout", None)
    assert Api(token, dataset).one(record()).status_code == 202


def test_create_key_issues_a_browser_key(dataset: Dataset) -> None:
    origins = ("--origin", "https://Shop.example.com", "--origin", "http://shop.example.com:8080")
    token = run("create_key", "billing", *origins, "--records-per-minute", "50").strip()
    key = ApiKey.objects.get()
    assert (key.origins, key.records_per_minute) == (["https://shop.example.com", "http://shop.example.com:8080"], 50)
    assert Api(token, dataset).one(record(), Origin="https://shop.example.com").status_code == 202
    assert Api(token, dataset).one(record()).status_code == 403


def test_create_key_explains_a_wrong_origin(project: Project) -> None:
    assert "has a wildcard" in refusal("create_key", "billing", "--origin", "https://*.example.com")
    assert "Only browser keys have this limit" in refusal("create_key", "billing", "--records-per-minute", "5")
    assert "greater than or equal to 1" in refusal(
        "create_key", "billing", "--origin", "https://a.example", "--records-per-minute", "0"
    )
    assert ApiKey.objects.count() == 0


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2999-01-31", datetime(2999, 1, 31, tzinfo=UTC)),
        ("2999-01-31T12:30", datetime(2999, 1, 31, 12, 30, tzinfo=UTC)),
        ("2999-01-31T12:30:00Z", datetime(2999, 1, 31, 12, 30, tzinfo=UTC)),
        ("2999-01-31T12:30:00+02:00", datetime(2999, 1, 31, 10, 30, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_in_utc_unless_it_has_an_offset(project: Project, written: str, moment: datetime) -> None:
    token = run("create_key", "billing", "--expires", written).strip()
    assert ApiKey.objects.get().expires_at == moment
    assert read_token(token).expires_at == moment.timestamp()


def test_an_invalid_expiry_is_explained(project: Project) -> None:
    for written in ("tomorrow", "2999-02-30", "9999-12-31T23:59:59-10:00"):
        assert f"“{written}” is not a time. Write 2027-01-31 or " in refusal(
            "create_key", "billing", "--expires", written
        )
    said = refusal("create_key", "billing", "--expires", "2020-01-31T12:00:00+02:00")
    assert said == "2020-01-31 10:00 UTC is in the past. Choose a later time."
    assert ApiKey.objects.count() == 0


def test_a_refused_key_is_explained(project: Project) -> None:
    assert refusal("create_key", "nothing") == "There is no project “nothing”."
    assert "at most 200 characters" in refusal("create_key", "billing", "--name", "x" * 201)
    with redis_away():
        assert "Redis does not answer" in refusal("create_key", "billing")
    assert ApiKey.objects.count() == 0


# -- create_demo --------------------------------------------------------------------------------------


@pytest.fixture
def data_dir(settings: Settings, tmp_path: Path, transactional_db: None) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


def test_the_demo_is_created_once(data_dir: Path) -> None:
    assert run("create_demo") == ""
    made = Project.objects.get(), Dataset.objects.get(), ApiKey.objects.get(), User.objects.get()
    password = (data_dir / "demo-admin-password").read_text()
    assert os.stat(data_dir / "demo-admin-password").st_mode & 0o777 == 0o600
    assert logs_in("admin", password)
    assert made[0].default_dataset == made[1]
    run("create_demo")
    assert made == (Project.objects.get(), Dataset.objects.get(), ApiKey.objects.get(), User.objects.get())


def test_the_demos_curl_command_sends_a_valid_record(data_dir: Path) -> None:
    shown = run("create_demo", "--show", "--port", "8123")
    token = shown.split("Bearer ")[1].split("'")[0]
    dataset = Dataset.objects.get()
    assert f"curl -X POST http://localhost:8123/datasets/{dataset.pk} " in shown
    body = json.loads(shown.split("--data '")[1].split("'")[0])
    assert Api(token, dataset).one(body).status_code == 202
    services.revoke_key(ApiKey.objects.get())
    assert "curl" not in run("create_demo", "--show")


def test_the_demo_is_created_completely_or_not_at_all(data_dir: Path) -> None:
    with redis_away():
        assert "Redis does not answer" in refusal("create_demo")
    assert (Project.objects.count(), User.objects.count()) == (0, 0)
    run("create_demo")
    assert ApiKey.objects.count() == 1
    assert logs_in("admin", (data_dir / "demo-admin-password").read_text())
