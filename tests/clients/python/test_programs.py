"""Programs that use the client, against the whole service: the README, exits, forks and kills."""

import json
import os
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from functools import partial
from itertools import count as counted
from pathlib import Path

import pytest

from datasets.admin.snippets import snippets
from datasets.schemas.declarations import read_fields
from tests.clients.python.artifact import PACKAGE, environment
from tests.support.processes.stack import Stack, running, wait_for

FIELDS = {"country": "string", "amount": "number", "active": "boolean"}
EVERY_TYPE = {**FIELDS, "price": "decimal(10,2)", "day": "date", "note": "string?", "tags": "string[]", "more": "json"}
_numbers = counted()
BEGINNING = """
import os, sys, time
from dataset_ingest import DatasetIngestClient

def record(number):
    context = {"process": os.getpid()}
    return {"timestamp": "2026-06-10T10:58:00Z", "context": context, "country": "RO", "amount": number, "active": True}

def make(**options):
    return DatasetIngestClient(base_url=URL, api_key=KEY, dataset={"id": ID, "fields": FIELDS}, **options)
"""


class Service:
    """A running service and a dataset of it."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self.project_id, self.dataset_id, self.token = stack.make_dataset(name, FIELDS)

    def program(self, text: str) -> str:
        """Return a program that makes clients of the dataset."""
        known = f"URL, KEY, ID, FIELDS = {self.stack.url!r}, {self.token!r}, {self.dataset_id}, {FIELDS!r}\n"
        return known + BEGINNING + textwrap.dedent(text)

    def start(self, text: str, cwd: Path) -> "subprocess.Popen[str]":
        python = environment() / "bin" / "python"
        return subprocess.Popen([python, "-c", self.program(text)], cwd=cwd, stdout=subprocess.PIPE, text=True)

    def run(self, text: str, cwd: Path) -> str:
        process = self.start(text, cwd)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return printed

    def amounts(self, count: int) -> list[float]:
        """Wait until all accepted records are stored. Return their amounts."""
        self.stack.wait_until_drained(self.dataset_id, count)
        return [row[0] for row in self.stack.query(self.project_id, self.dataset_id, "SELECT amount FROM records")]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("programs") / "data", "--no-demo", "--web", "1") as started:
        yield started


@pytest.fixture
def service(stack: Stack) -> Service:
    return Service(stack, f"project-{next(_numbers)}")


def test_the_first_program_of_the_readme_works_as_it_is(service: Service, tmp_path: Path) -> None:
    program = (PACKAGE / "README.md").read_text().split("```python\n")[1].split("```")[0]
    mine = {
        "http://localhost:8000": service.stack.url,
        "YOUR_API_KEY": service.token,
        '"id": 13': f'"id": {service.dataset_id}',
    }
    for theirs, ours in mine.items():
        assert program.count(theirs) == 1
        program = program.replace(theirs, ours)
    done = subprocess.run(
        [environment() / "bin" / "python", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("1 accepted\n", "")
    assert len(service.amounts(2)) == 2


def test_the_code_of_the_admin_works_as_pasted(stack: Stack, tmp_path: Path) -> None:
    _, dataset_id, token = stack.make_dataset("pasted", EVERY_TYPE)
    fields = read_fields(json.dumps({"fields": EVERY_TYPE}))
    code = {each.name: each.text for each in snippets(stack.url, dataset_id, fields, token)}
    for name in ("python-client", "python"):
        done = subprocess.run(
            [environment() / "bin" / "python", "-c", code[name]], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    stack.wait_until_drained(dataset_id, 2)


def test_the_end_of_a_program_sends_what_is_buffered(service: Service, tmp_path: Path) -> None:
    service.run("client = make(flush_interval=60)\nfor n in range(1200): client.enqueue(record(n))", tmp_path)
    assert sorted(service.amounts(1200)) == list(range(1200))


def test_the_end_of_an_async_program_sends_what_is_buffered(service: Service, tmp_path: Path) -> None:
    text = """
    import asyncio, gc
    from dataset_ingest import AsyncDatasetIngestClient

    async def main():
        dataset = {"id": ID, "fields": FIELDS}
        client = AsyncDatasetIngestClient(base_url=URL, api_key=KEY, dataset=dataset, flush_interval=60)
        for n in range(600):
            await client.enqueue(record(n))

    asyncio.run(main())
    gc.collect()
    """
    service.run(text, tmp_path)
    assert sorted(service.amounts(600)) == list(range(600))


def test_processes_that_are_forked_send_their_own_records(service: Service, tmp_path: Path) -> None:
    text = """
    client = make(flush_interval=60, spool="spool")
    for n in range(10):
        client.enqueue(record(n))
    children = []
    for child in range(1, 3):
        pid = os.fork()
        if pid == 0:
            for n in range(10):
                client.enqueue(record(100 * child + n))
            client.send(record(100 * child + 10))
            client.close()
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    client.close()
    """
    service.run(text, tmp_path)
    expected = [*range(10), *range(100, 111), *range(200, 211)]
    assert sorted(service.amounts(32)) == expected
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_kill_loses_and_doubles_nothing_that_enqueue_has_confirmed(service: Service, tmp_path: Path) -> None:
    """Three clients are killed while they send. Their confirmed records are in the table, each once."""
    text = """
    client = make(spool="spool", max_batch_records=50, flush_interval=0.01)
    number = FIRST
    with open("confirmed", "a", buffering=1) as confirmed:
        while True:
            client.enqueue(record(number))
            confirmed.write(f"{number}\\n")
            number += 1
    """

    def confirmed() -> list[int]:
        path = tmp_path / "confirmed"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [int(line) for line in lines if line.endswith("\n")]

    def has_reached(number: int) -> bool:
        return max(confirmed(), default=0) > number

    for first in (1_000_000, 2_000_000, 3_000_000):
        process = service.start(text.replace("FIRST", str(first)), tmp_path)
        wait_for(partial(has_reached, first + 2000), "confirmed records")
        process.send_signal(signal.SIGKILL)
        process.wait()
    service.run('client = make(spool="spool")\nclient.flush(timeout=60)', tmp_path)
    stored = service.amounts(service.stack.ledger(service.dataset_id)["accepted"])
    assert set(confirmed()) <= set(stored)
    assert len(stored) == len(set(stored))
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_service_that_is_killed_and_started_again_gets_each_record_once(service: Service, tmp_path: Path) -> None:
    text = """
    client = make(flush_interval=0.02, max_batch_records=20, max_backoff=0.5)
    deliveries = []
    for n in range(3000):
        deliveries.append(client.enqueue(record(n)))
        if n == 1000:
            print("sending", flush=True)
        time.sleep(0.0005)
    client.flush(timeout=60)
    print(sum(delivery.exception(0) is None for delivery in deliveries))
    """
    process = service.start(text, tmp_path)
    assert process.stdout
    assert process.stdout.readline() == "sending\n"
    for program in ("web", "redis"):
        service.stack.program(program).kill()
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, "3000\n")
    assert sorted(service.amounts(3000)) == list(range(3000))


CSV_ROW = '2026-06-10T10:58:00Z,"{{""a"": 1}}",RO,{},true'
LINE = '{{"timestamp":"2026-06-10T10:58:00Z","context":{{"a":1}},"country":"RO","amount":{},"active":true}}'


@pytest.mark.parametrize(
    ("form", "head", "row"),
    [("csv", "timestamp,context,country,amount,active\n", CSV_ROW), ("ndjson", "", LINE)],
    ids=["csv", "ndjson"],
)
def test_an_import_that_is_killed_twice_stores_each_row_once(
    service: Service, tmp_path: Path, form: str, head: str, row: str
) -> None:
    count = 60_000
    (tmp_path / f"rows.{form}").write_text(head + "\n".join(row.format(number) for number in range(count)))
    command = [str(environment() / "bin" / "dataset-ingest"), "import", f"rows.{form}"]
    command += ["--dataset", str(service.dataset_id)]
    known = {**os.environ, "DATASET_INGEST_URL": service.stack.url, "DATASET_INGEST_KEY": service.token}
    progress = tmp_path / f"rows.{form}.import-{service.dataset_id}"

    def accepted() -> int:
        return int(json.loads(progress.read_text())["confirmed"]["accepted"]) if progress.exists() else 0

    def has_accepted(least: int) -> bool:
        return accepted() > least

    for _ in range(2):
        process = subprocess.Popen(command, cwd=tmp_path, env=known)
        wait_for(partial(has_accepted, accepted()), "accepted rows")
        process.kill()
        process.wait()
    assert accepted() < count
    done = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True)
    assert done.stdout == f"Dataset {service.dataset_id} has accepted {count:,} of {count:,} rows.\n"
    assert sorted(service.amounts(count)) == list(range(count))
