"""The TypeScript client and a running service: each record is settled, and what is accepted is stored once."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.admin.snippets import snippets as snippets_of_admin
from datasets.schemas.declarations import read_fields
from tests.clients.recipes.pages import first_record
from tests.clients.typescript.artifact import program, run, snippets
from tests.clients.typescript.sending import FIELDS, sending
from tests.support.documents import ROOT
from tests.support.processes.stack import Stack, running, wait_for, words
from tests.support.tools import executable

# Deno may use only the network. It may use only packages that npm has installed.
RUNTIMES = {"bun": ["run"], "deno": ["run", "--no-remote", "--allow-net"]}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    program()
    with running(tmp_path_factory.mktemp("service"), "--no-demo", "--web", "1") as stack:
        yield stack


def test_the_first_example_of_the_readme_works_as_pasted(stack: Stack) -> None:
    fields = {"country": "string", "amount": "number", "active": "boolean"}
    project_id, dataset_id, token = stack.make_dataset("readme", fields)
    changes = {"http://localhost:8000": stack.url, "YOUR_API_KEY": token, "id: 13": f"id: {dataset_id}"}
    example = snippets()[0]
    for old, new in changes.items():
        assert old in example
        example = example.replace(old, new)
    (program() / "first.mjs").write_text(example)
    assert run(executable("node"), "first.mjs", cwd=program()) == "1 accepted\n"
    rows = stack.query(project_id, dataset_id, "SELECT country, amount, active, context FROM records")
    assert rows == [("RO", 42.5, True, '{"source":"billing-service"}')] * 2


def test_the_code_of_the_admin_works_as_pasted(stack: Stack) -> None:
    declared = {**FIELDS, "price": "decimal(10,2)", "day": "date", "note": "string?", "tags": "string[]"}
    _, dataset_id, token = stack.make_dataset("pasted", declared)
    fields = read_fields(json.dumps({"fields": declared}))
    code = {each.name: each.text for each in snippets_of_admin(stack.url, dataset_id, fields, token)}
    for name in ("typescript-client", "node"):
        (program() / f"{name}.mjs").write_text(code[name])
        assert run(executable("node"), f"{name}.mjs", cwd=program())
    stack.wait_until_drained(dataset_id, 2)


def test_the_first_record_of_the_page_for_beginners_is_stored(stack: Stack) -> None:
    code, project_id, dataset_id = first_record(stack, "js")
    (program() / "first-record.mjs").write_text(code)
    assert run(executable("node"), "first-record.mjs", cwd=program()) == "stored\n"
    rows = stack.query(project_id, dataset_id, "SELECT sensor, celsius, battery FROM records")
    assert rows == [("attic", 21.5, None)]


@pytest.mark.parametrize("name", RUNTIMES)
def test_it_works_in_other_runtimes(stack: Stack, name: str, tmp_path: Path) -> None:
    runtime = executable(name, ROOT / "tests/clients/node_modules/.bin")
    project_id, dataset_id, token = stack.make_dataset(name, FIELDS)
    script = shutil.copy(Path(__file__).with_name("runtime.mjs"), program())
    command = (runtime, *RUNTIMES[name], script, stack.url, token, str(dataset_id))
    printed = run(*command, cwd=program(), DENO_DIR=str(tmp_path), DENO_NO_UPDATE_CHECK="1")
    problem = {"error": "Invalid integer field: number", "code": "invalid_field", "field": "number"}
    problems = [{**problem, "expected": "integer", "received": "string"}]
    assert json.loads(printed) == {"count": 1, "isInvalid": True, "problems": problems}
    stack.wait_until_drained(dataset_id, 2)
    rows = stack.query(project_id, dataset_id, "SELECT number, text FROM records ORDER BY number")
    assert rows == [(1, "x" * 2000), (2, "last")]


def test_datasets_are_managed_and_queried(stack: Stack) -> None:
    stack.make_dataset("shop", FIELDS)
    token = words(r"(pat_\S+)", stack.do("create_pat", "ada", "--name", "typescript"))
    key = stack.do("create_key", "shop").strip()
    script = shutil.copy(Path(__file__).with_name("querying.mjs"), program())
    assert json.loads(run(executable("node"), script, stack.url, token, key, "shop", cwd=program())) == {
        "status": "pending_schema",
        "renamed": "from the shop",
        "registered": [{"version": 1, "published": True}, {"version": 1, "published": False}],
        "listed": ["Measured", "Orders"],
        "grouped": [
            {"country": "DE", "events": 1, "sum_amount": 50, "day": "2026-06-10T00:00:00Z"},
            {"country": "RO", "events": 1, "sum_amount": 30, "day": "2026-06-10T00:00:00Z"},
        ],
        "plain": {
            "timestamp": "2026-06-10T10:58:00.120000Z",
            "price": 0.1,
            "extra": {"b": [1]},
            "moments": ["2026-06-10T10:58:00.120000Z"],
            "big": 2,
            "context": {"a": 1},
        },
        "pages": [2, True, 1],
        "counted": [{"count": 3}],
        "wrong": [True, 400, "invalid_query", "where[0].op"],
    }


def test_nothing_is_lost_when_processes_are_killed(stack: Stack) -> None:
    project_id, dataset_id, token = stack.make_dataset("killed", FIELDS)
    with sending(stack, dataset_id, token) as sender:
        for name in ("web", "redis"):
            killed = stack.program(name)
            killed.kill()
            wait_for(lambda name=name, killed=killed: stack.program(name).pid != killed.pid, f"another {name}")  # type: ignore[misc]
            sender.wait_until_accepted()
        sender.stop()
    assert sender.refused == {}
    sender.check(stack, project_id, dataset_id)


def test_a_quota_that_is_reached_refuses_the_rest(stack: Stack) -> None:
    project_id, dataset_id, token = stack.make_dataset("limited", FIELDS, owner="ada")
    stack.do("quota", "ada", "--limit", "100000000")
    with sending(stack, dataset_id, token) as sender:
        stack.do("quota", "ada", "--limit", "1")
        sender.wait_for("refused: QuotaExceededError quota_exceeded")
        sender.stop()
    stack.do("quota", "ada", "--limit", "-1")
    assert [*sender.refused] == ["QuotaExceededError quota_exceeded"]
    sender.check(stack, project_id, dataset_id)


def test_a_revoked_key_refuses_the_rest(stack: Stack) -> None:
    project_id, dataset_id, _ = stack.make_dataset("revoked", FIELDS)
    key = stack.operator.do("new_key", project=project_id)
    with sending(stack, dataset_id, key["token"]) as sender:
        stack.operator.do("revoke", key=key["key"])
        sender.wait_for("refused: AuthenticationError invalid_api_key")
        sender.stop()
    assert [*sender.refused] == ["AuthenticationError invalid_api_key"]
    sender.check(stack, project_id, dataset_id)


def test_a_changed_schema_refuses_the_records_that_no_longer_match(stack: Stack) -> None:
    project_id, dataset_id, token = stack.make_dataset("changed", FIELDS)
    with sending(stack, dataset_id, token) as sender:
        stack.operator.do("publish", dataset=dataset_id, schema={**FIELDS, "added": "string"}, grace=0)
        sender.wait_for("refused: ValidationError missing_field")
        sender.stop()
    assert [*sender.refused] == ["ValidationError missing_field"]
    sender.check(stack, project_id, dataset_id)
