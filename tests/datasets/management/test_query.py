"""`manage.py query`: formats, sources of the query, and errors about wrong queries."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from django.core.management import CommandError, call_command

from config.common.env import BASE_DIR
from datasets.management.commands.query import Command
from datasets.models import Dataset
from tests.conftest import Api, record, stored
from tests.test_commands import environment

HOSTILE = "\x1b]0;owned\x07 \x9b31m"
JUNE = {"from": "2026-06-01T00:00:00Z", "to": "2026-06-30T00:00:00Z"}
GROUPS = {
    "range": JUNE,
    "select": [{"field": "country"}, {"aggregate": "sum", "field": "amount", "as": "total"}],
    "groupBy": ["country"],
    "orderBy": [{"field": "total", "direction": "desc"}],
}


@pytest.fixture
def orders(api: Api, dataset: Dataset) -> Dataset:
    for country, amount in (("RO", 42.5), ("DE", 7), ("RO", 0.5)):
        assert api.one(record(country=country, amount=amount)).status_code == 202
    stored(dataset)
    return dataset


def query(dataset: Dataset, body: Any, *options: str, capsys: "pytest.CaptureFixture[str]") -> str:
    """Return what the command prints to standard output."""
    text = body if isinstance(body, str) else json.dumps(body)
    call_command("query", str(dataset.pk), text, *options)
    return capsys.readouterr().out


def refusal(dataset: Dataset, body: Any) -> list[str]:
    """Return the lines of the error of a query that is refused."""
    text = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(CommandError) as refused:
        call_command("query", str(dataset.pk), text)
    return str(refused.value).splitlines()


def test_a_table_has_the_rows_and_says_what_was_read(orders: Dataset, capsys: "pytest.CaptureFixture[str]") -> None:
    call_command("query", str(orders.pk), json.dumps(GROUPS))
    out, err = capsys.readouterr()
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in out.splitlines() if "│" in line]
    assert cells == [["RO", "43.0"], ["DE", "7.0"]]
    assert "country" in out
    assert "2 rows in " in err
    assert " ms from 1 file with " in err


def test_csv_and_ndjson_have_the_rows_as_over_http(orders: Dataset, capsys: "pytest.CaptureFixture[str]") -> None:
    assert query(orders, GROUPS, "--format", "csv", capsys=capsys) == '"country","total"\n"RO",43\n"DE",7\n'
    lines = query(orders, GROUPS, "--format", "ndjson", capsys=capsys).splitlines()
    assert [json.loads(line) for line in lines] == [{"country": "RO", "total": 43}, {"country": "DE", "total": 7}]


def test_arrow_goes_to_a_file_with_exact_types(orders: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "result.arrow"
    call_command("query", str(orders.pk), json.dumps(GROUPS), "--format", "arrow", "-o", str(path))
    found = pa.ipc.open_stream(path.read_bytes()).read_all()
    assert found.to_pydict() == {"country": ["RO", "DE"], "total": [43.0, 7.0]}
    assert found.schema.field("total").type == pa.float64()


def test_the_query_may_be_in_a_file_or_on_standard_input(
    orders: Dataset, tmp_path: Path, capsys: "pytest.CaptureFixture[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = query(orders, GROUPS, "--format", "csv", capsys=capsys)
    path = tmp_path / "query.json"
    path.write_text(json.dumps(GROUPS))
    assert query(orders, f"@{path}", "--format", "csv", capsys=capsys) == direct
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert query(orders, "-", "--format", "csv", capsys=capsys) == direct
    (missing,) = refusal(orders, f"@{tmp_path}/missing.json")
    assert missing == f"[Errno 2] No such file or directory: '{tmp_path}/missing.json'"


def test_each_problem_has_a_line_with_its_path(orders: Dataset) -> None:
    body = {"where": [{"field": "plan", "op": "=", "value": "pro"}, {"field": "amount", "op": "contains"}], "limit": 0}
    assert refusal(orders, body) == [
        "Invalid query",
        "  where[1].op: The operator for “amount” (number) is not known here. "
        "Use one of: =, !=, <, <=, >, >=, in, not_in.",
        "  limit: The limit must be an integer from 1 to 1000.",
    ]
    assert refusal(orders, "[]") == ["Invalid query", "  A query must be an object."]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON body: Line 1, column 2: a name"),
        ('{"limit": 1, "limit": 2}', "Invalid JSON body: An object has a name twice."),
        ("{}\udcff", "Invalid JSON body: The byte 0xff (byte 2) is not UTF-8."),
    ],
)
def test_a_text_that_is_not_json_is_refused(orders: Dataset, text: str, said: str) -> None:
    (line,) = refusal(orders, text)
    assert said in line


def test_a_dataset_that_is_missing_or_has_no_schema_is_an_error(dataset: Dataset) -> None:
    with pytest.raises(CommandError, match=r"^There is no dataset 424242\.$"):
        call_command("query", "424242", "{}")
    dataset.versions.all().delete()
    assert refusal(dataset, {}) == ["Dataset schema not found. Declare the fields first."]


def test_a_dataset_without_records_has_none_and_a_count_of_zero(
    dataset: Dataset, capsys: "pytest.CaptureFixture[str]"
) -> None:
    assert query(dataset, {}, "--format", "ndjson", capsys=capsys) == '{"count":0}\n'
    assert query(dataset, {"select": [{"field": "plan"}]}, capsys=capsys) == "No record matches.\n"


def test_the_printed_cursor_gives_the_next_page(orders: Dataset, capsys: "pytest.CaptureFixture[str]") -> None:
    body: dict[str, Any] = {"range": JUNE, "select": [{"field": "country"}, {"field": "amount"}], "limit": 2}
    body["orderBy"] = [{"field": "amount"}]
    call_command("query", str(orders.pk), json.dumps(body), "--format", "ndjson")
    out, err = capsys.readouterr()
    assert [json.loads(line)["amount"] for line in out.splitlines()] == [0.5, 7]
    assert "There are more rows than these 2." in err
    body["cursor"] = err.split('"cursor": "')[1].split('"')[0]
    call_command("query", str(orders.pk), json.dumps(body), "--format", "ndjson")
    out, err = capsys.readouterr()
    assert ([json.loads(line)["amount"] for line in out.splitlines()], err) == ([42.5], "")


def test_a_query_beyond_its_memory_says_what_to_do(orders: Dataset, settings: Any) -> None:
    settings.QUERY_MEMORY_BYTES = 1000
    (line,) = refusal(orders, GROUPS)
    assert line.startswith("Query too large. It needs more than 1,000 bytes of memory. Choose a shorter range,")
    assert line.endswith("or raise QUERY_MEMORY_BYTES for this command.")


@pytest.mark.parametrize("file_format", ["csv", "arrow"])
def test_a_terminal_gets_no_control_characters_and_no_arrow(api: Api, dataset: Dataset, file_format: str) -> None:
    assert api.one(record(country=HOSTILE)).status_code == 202
    stored(dataset)
    body = json.dumps({"range": JUNE, "select": [{"field": "country"}]})
    master, slave = os.openpty()
    command = [sys.executable, "manage.py", "query", str(dataset.pk), body, "--format", file_format]
    with subprocess.Popen(
        command, cwd=BASE_DIR, env=environment(), stdout=slave, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(slave)
        assert process.stderr is not None
        said = process.stderr.read()
    if file_format == "csv":
        assert os.read(master, 65536).decode() == '"country"\r\n"\\x1b]0;owned\\x07 \\x9b31m"\r\n'
    os.close(master)
    refused = "CommandError: A terminal cannot show arrow. Name a file with -o, or use a pipe.\n"
    assert (process.returncode, said) == ((0, "") if file_format == "csv" else (1, refused))


def test_the_help_has_every_member_operator_and_aggregate() -> None:
    shown = Command().create_parser("manage.py", "query").format_help()
    for word in ("range", "groupBy", "cursor", "starts_with", "is_not_null", "p99", "week", "__traceId", "@query.json"):
        assert word in shown
    assert "{{" not in shown
