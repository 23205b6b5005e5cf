"""The recipes for shells, programs and readers work without changes."""

import json
import os
import re
import subprocess
from itertools import count
from pathlib import Path

import pytest

from datasets.admin.snippets import snippets
from datasets.schemas.declarations import read_fields
from tests.clients.python.artifact import environment
from tests.clients.recipes.pages import Target, code_of, first_record, text_of
from tests.clients.recipes.relay import relaying
from tests.support.processes.stack import Stack, free_port, words
from tests.support.tools import executable

FIELDS = {"country": "string", "amount": "number", "active": "boolean"}
_numbers = count()


class Recipe:
    """A dataset, and a folder in which the code of a recipe runs."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.project_id, self.dataset_id, self.token = stack.make_dataset(f"recipe-{next(_numbers)}", FIELDS)

    def target(self, url: str = "") -> Target:
        return Target(url or self.stack.url, self.token, self.dataset_id)

    def run(self, *command: str, exit_code: int = 0) -> str:
        """Run a command with the programs of the Python client's environment. Return what the command prints."""
        path = f"{environment() / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == exit_code, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def shell(self, code: str, exit_code: int = 0) -> str:
        return self.run(executable("bash"), "-c", code, exit_code=exit_code)

    def stored(self, accepted: int) -> list[tuple[str, float, bool]]:
        """Wait until all accepted records are stored. Return them, sorted."""
        self.stack.wait_until_drained(self.dataset_id, accepted)
        sql = "SELECT country, amount, active FROM records ORDER BY ALL"
        return [(row[0], row[1], row[2]) for row in self.stack.query(self.project_id, self.dataset_id, sql)]

    def reading(self, code: str) -> str:
        """Return code that reads this dataset's table."""
        path = "var/tables/project_1/dataset_13"
        assert path in code
        return code.replace(path, f"{self.stack.storage}/project_{self.project_id}/dataset_{self.dataset_id}")

    def write_lines(self, amounts: range) -> None:
        """Write `orders.ndjson`."""
        lines = [{**RECORD, "amount": amount} for amount in amounts]
        (self.folder / "orders.ndjson").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


RECORD = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "country": "RO", "amount": 1, "active": True}
# The page, the language and the file name of each program. A program is the second block in its language on its page.
PROGRAMS = [("node", "js", "send.mjs"), ("python", "python", "send.py")]
CSV_ROWS = [("Côte d'Ivoire", 7.0, False), ("RO", 42.5, True)]


@pytest.fixture
def recipe(stack: Stack, tmp_path: Path) -> Recipe:
    return Recipe(stack, tmp_path)


@pytest.mark.parametrize(("page", "language"), [("curl", "sh"), ("node", "js"), ("python", "python")])
def test_the_first_code_of_a_page_is_what_the_admin_shows(page: str, language: str) -> None:
    fields = read_fields(json.dumps({"fields": FIELDS}))
    sample = json.dumps({**RECORD, "amount": 42.5})
    (shown,) = (each for each in snippets("http://localhost:8000", 13, fields, sample=sample) if each.name == page)
    assert code_of(page, language).replace('"', "'").strip() == shown.text.replace('"', "'")


def test_curl_sends_a_record(recipe: Recipe) -> None:
    answer = recipe.shell(recipe.target().filled(code_of("curl", "sh", 0)))
    assert answer == '{"success":true,"status":"queued"}'
    assert recipe.stored(1) == [("RO", 42.5, True)]


def test_curl_sends_a_file_twice_and_it_is_stored_once(recipe: Recipe) -> None:
    recipe.write_lines(range(3))
    with relaying(free_port(), recipe.stack.port, to_lose=1) as relay:
        code = recipe.target(f"http://127.0.0.1:{relay.server_address[1]}").filled(code_of("curl", "sh", 1))
        recipe.shell(code, exit_code=52)
        assert recipe.shell(code) == '{"success":true,"count":3,"status":"queued"}'
    assert recipe.stored(3) == [("RO", float(n), True) for n in range(3)]


def test_curl_fails_with_the_answer_if_a_record_is_refused(recipe: Recipe) -> None:
    (recipe.folder / "orders.ndjson").write_text(json.dumps({**RECORD, "amount": "12,5"}))
    answer = json.loads(recipe.shell(recipe.target().filled(code_of("curl", "sh", 1)), exit_code=22))
    assert (answer["error"], answer["index"]) == ("Invalid number field: amount", 0)


def test_curl_sends_a_compressed_file(recipe: Recipe) -> None:
    recipe.write_lines(range(100))
    recipe.shell(recipe.target().filled(code_of("curl", "sh", 2)))
    assert len(recipe.stored(100)) == 100


@pytest.mark.parametrize(("page", "language", "file"), PROGRAMS)
def test_a_program_repeats_a_request_whose_answer_is_lost(recipe: Recipe, page: str, language: str, file: str) -> None:
    with relaying(free_port(), recipe.stack.port, to_lose=1) as relay:
        url = f"http://127.0.0.1:{relay.server_address[1]}"
        (recipe.folder / file).write_text(recipe.target(url).filled(code_of(page, language, 1)))
        printed = recipe.run(executable("node") if language == "js" else "python", file)
        assert relay.lost == 1
    assert printed.strip() == words("It prints `(.+?)`", text_of(page))
    assert recipe.stored(2) == [("RO", 7.0, True), ("RO", 42.5, True)]


@pytest.mark.parametrize(("page", "language", "file"), PROGRAMS)
def test_a_program_fails_with_the_answer_if_a_record_is_refused(
    recipe: Recipe, page: str, language: str, file: str
) -> None:
    code = recipe.target().filled(code_of(page, language, 1))
    (recipe.folder / file).write_text(code.replace("42.5", '"42.5"'))
    command = executable("node") if language == "js" else "python"
    printed = recipe.shell(f"{command} {file} 2>&1", exit_code=1)
    assert '400 {"error":"Invalid number field: amount"' in printed


def test_the_first_record_of_the_python_client_is_stored(recipe: Recipe) -> None:
    code, project_id, dataset_id = first_record(recipe.stack, "python")
    assert recipe.run("python", "-c", code) == "stored\n"
    rows = recipe.stack.query(project_id, dataset_id, "SELECT sensor, celsius, battery FROM records")
    assert rows == [("attic", 21.5, None)]


def test_the_command_imports_a_csv_file(recipe: Recipe) -> None:
    (recipe.folder / "orders.csv").write_text(code_of("csv", "csv"))
    recipe.shell(recipe.target().filled(code_of("csv", "sh", 0)))
    assert recipe.stored(2) == CSV_ROWS


def test_a_shell_sends_a_csv_file_in_parts_and_continues(recipe: Recipe) -> None:
    executable("mlr")
    (recipe.folder / "orders.csv").write_text(code_of("csv", "csv"))
    recipe.shell(code_of("csv", "sh", 1).replace("-l 5000", "-l 1"))
    with relaying(free_port(), recipe.stack.port, to_lose=1) as relay:
        send = recipe.target(f"http://127.0.0.1:{relay.server_address[1]}").filled(code_of("csv", "sh", 2))
        recipe.shell(send)
        assert relay.lost == 1
        assert sorted(path.name for path in recipe.folder.glob("part.*")) == ["part.aa", "part.ab"]
        recipe.shell(send)
    assert not [*recipe.folder.glob("part.*")]
    assert recipe.stored(2) == CSV_ROWS


@pytest.mark.parametrize("number", range(3), ids=["Polars", "DuckDB", "pandas"])
def test_a_reader_of_delta_lake_reads_the_table(recipe: Recipe, number: int) -> None:
    recipe.write_lines(range(4, 9))
    recipe.shell(recipe.target().filled(code_of("curl", "sh", 1)))
    recipe.stored(5)
    printed = recipe.run("python", "-c", recipe.reading(code_of("reading", "python", number)))
    rows = [re.findall(r"[\w.:-]+", line) for line in printed.splitlines()]
    if number == 0:
        assert [row[-2:] for row in rows if row and row[-1].endswith(".0")] == [["RO", f"{n}.0"] for n in range(6, 9)]
    else:
        assert ["RO", "5", "30.0"] in rows or ["RO", "30.0"] in rows
