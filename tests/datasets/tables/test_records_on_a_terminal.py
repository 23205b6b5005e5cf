"""`manage.py records` and `ledger` on terminals and pipes, with hostile text."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from config.common.env import BASE_DIR
from datasets.models import Dataset
from datasets.tables.layout import PARTITION, base_columns
from datasets.tables.table import DatasetTable
from tests.conftest import FIELDS, Api, record, stored
from tests.test_commands import environment

HOSTILE = "key[source][/x] :smile: \x1b]0;owned\x07 \x9b31m \u202eabc"
SHOWN = "key[source][/x] :smile: \\x1b]0;owned\\x07 \\x9b31m \\u202eabc"


def manage(*words: object, **more: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a management command until it ends."""
    command = [sys.executable, "manage.py", *map(str, words)]
    return subprocess.run(
        command,
        cwd=BASE_DIR,
        env=environment(**{"COLUMNS": "400", "PYTHONUTF8": "1", **more}),
        capture_output=True,
        timeout=120,
    )


def fill(dataset: Dataset, rows: int) -> None:
    """Write `rows` rows directly to the table, without the queue."""
    DatasetTable.of(dataset).create(FIELDS)
    now = pa.array(np.full(rows, 1_780_000_000_000_000), pa.int64()).cast(pa.timestamp("us", "UTC"))
    same = pa.array(["{}"]).take(pa.array(np.zeros(rows, int)))
    values = {
        "id": pa.array([f"1780000000000-{n:07}-00000" for n in range(rows)]),
        "project_id": pa.array(np.full(rows, dataset.project_id)),
        "dataset_id": pa.array(np.full(rows, dataset.pk)),
        **dict.fromkeys(("timestamp", "ingested_at", "signup_at"), now),
        **dict.fromkeys(("context", "__traceId", "country", "plan"), same),
        "__schemaVersion": pa.array(np.ones(rows, np.int32)),
        "amount": pa.array(np.arange(rows, dtype=float)),
        "active": pa.array(np.ones(rows, bool)),
        PARTITION: now.cast(pa.timestamp("us")).cast(pa.date32()),
    }
    names = [*(field.name for field in base_columns()), *(field.name for field in FIELDS), PARTITION]
    write_deltalake(DatasetTable.of(dataset).uri, pa.table({name: values[name] for name in names}), mode="append")


@pytest.mark.parametrize("width", ["80", "400"])
def test_a_table_shows_markup_and_controls_literally(api: Api, dataset: Dataset, width: str) -> None:
    assert api.one(record(country=HOSTILE)).status_code == 202
    stored(dataset)
    done = manage("records", dataset.pk, COLUMNS=width)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    assert SHOWN in shown.replace("\n", "") or width == "80"
    assert "key[source][/x] :smile: \\x1b]0;owned" in shown
    assert not set("\x1b\x07\x9b\u202e") & set(shown)


def test_ndjson_has_no_control_characters(api: Api, dataset: Dataset) -> None:
    assert api.one(record(country=HOSTILE + "\x7f\u2028")).status_code == 202
    stored(dataset)
    done = manage("records", dataset.pk, "--format", "ndjson", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    line = done.stdout.decode()
    assert json.loads(line)["country"] == HOSTILE + "\x7f\u2028"
    assert not set("\x1b\x07\x9b\x7f\u2028\u202e") & set(line)


def test_csv_on_a_terminal_has_no_control_characters(api: Api, dataset: Dataset) -> None:
    assert api.one(record(country=HOSTILE)).status_code == 202
    stored(dataset)
    master, slave = os.openpty()
    command = [sys.executable, "manage.py", "records", str(dataset.pk), "--format", "csv"]
    with subprocess.Popen(command, cwd=BASE_DIR, env=environment(), stdout=slave) as process:
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 65536):
                shown += part
        except OSError:  # a terminal reports a closed other side this way
            pass
    os.close(master)
    assert process.returncode == 0
    assert SHOWN in shown.decode()
    assert not set("\x1b\x07\x9b\u202e") & set(shown.decode())


def test_the_ledger_shows_names_literally(dataset: Dataset) -> None:
    Dataset.objects.filter(pk=dataset.pk).update(name=HOSTILE)
    done = manage("ledger")
    assert (done.returncode, done.stderr) == (0, b"")
    assert SHOWN in done.stdout.decode()
    assert not set("\x1b\x07\x9b\u202e") & set(done.stdout.decode())


def test_an_error_shows_names_literally() -> None:
    done = manage("create_project", "shop", "--owner", "owner", "--name", "x" * 300, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    done = manage("create_dataset", HOSTILE, "name", "--schema", "/dev/null", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert not set("\x1b\x07\x9b\u202e") & set(done.stderr.decode())


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_it_ends_quietly_when_the_reader_closes_the_pipe(dataset: Dataset, form: str) -> None:
    fill(dataset, 1_000_000)
    words = [sys.executable, "manage.py", "records", str(dataset.pk), "--format", form]
    for _ in range(3):
        with subprocess.Popen(
            words, cwd=BASE_DIR, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            began = time.monotonic()
            assert process.stderr.read() == b""
            assert process.wait(60) == 141  # a shell reports SIGPIPE this way
            assert time.monotonic() - began < 20


def test_a_short_output_to_a_closed_pipe_is_quiet(dataset: Dataset) -> None:
    for words in (["ledger"], ["records", str(dataset.pk)], ["quota", "owner"]):
        command = [sys.executable, "manage.py", *words]
        with subprocess.Popen(
            command, cwd=BASE_DIR, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 141


@pytest.mark.parametrize("limit", [(), ("--limit", "15")])
@pytest.mark.parametrize("form", ["table", "ndjson", "csv", "parquet"])
def test_unreadable_records_are_an_error(
    api: Api, dataset: Dataset, tmp_path: Path, form: str, limit: tuple[str, ...]
) -> None:
    for name in "abcdefghijklmnop":
        assert api.one(record(country=name)).status_code == 202
        stored(dataset)
    files = sorted(Path(DatasetTable.of(dataset).uri).glob("*/*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    files[-2].unlink()
    out = tmp_path / "out"
    for words in (("-o", str(out)), ()) if form != "parquet" else (("-o", str(out)),):
        done = manage("records", dataset.pk, "--format", form, *words, *limit)
        assert done.returncode == 1
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("CommandError: The storage: records cannot be read: ")
        assert not out.exists()
