"""Import a large file, and kill the import twice before its end: each row is stored once.

.venv/bin/python -m tests.clients.python.large_import --form csv --bytes 1000000000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.clients.python.artifact import environment
from tests.support.processes.stack import Stack, running

FIELDS = {"number": "integer", "text": "string", "amount": "number"}
_TIME = "2026-06-10T10:58:00Z"
_TEXT = "a text of some length, as programs write it. " * 8
HEADS = {"csv": "timestamp,number,text,amount\n", "ndjson": ""}
ROWS = {
    "csv": f"2026-06-10T10:58:00Z,{{0}},{_TEXT.replace(',', ';')}{{0}},{{0}}.5\n",
    "ndjson": '{{"timestamp":"2026-06-10T10:58:00Z","context":{{}},"number":{0},"text":"'
    + _TEXT
    + '{0}","amount":{0}.5}}\n',
}


def write(path: Path, form: str, size: int) -> int:
    """Write a file of about `size` bytes. Return its number of rows."""
    count = 0
    with path.open("w") as file:
        file.write(HEADS[form])
        while file.tell() < size:
            file.write("".join(ROWS[form].format(count + number) for number in range(10_000)))
            count += 10_000
    return count


def run(command: list[str], stack: Stack, token: str, progress: Path, until: float) -> tuple[float, float]:
    """Run the import, and kill it when more than `until` rows are accepted. Return its seconds and peak memory (MB)."""
    known = {**os.environ, "DATASET_INGEST_URL": stack.url, "DATASET_INGEST_KEY": token}
    began, memory = time.monotonic(), 0.0
    process = subprocess.Popen(command, env=known)
    while process.poll() is None:
        if progress.exists() and json.loads(progress.read_bytes())["confirmed"]["accepted"] > until:
            process.kill()
        try:
            memory = max(memory, psutil.Process(process.pid).memory_info().rss / 1e6)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    assert process.wait() in (0, -9)
    return time.monotonic() - began, memory


def main() -> int:
    """Import, kill, continue and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=sorted(HEADS), default="csv")
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "data", "--no-demo", "--web", "1") as stack:
        project_id, dataset_id, token = stack.make_dataset("large", FIELDS)
        file = Path(name) / f"large.{options.form}"
        count = write(file, options.form, options.bytes)
        print(f"{file.stat().st_size / 1e6:,.0f} MB, {count:,} rows")
        command = [str(environment() / "bin" / "dataset-ingest"), "import", str(file), "--dataset", str(dataset_id)]
        progress = file.with_name(f"{file.name}.import-{dataset_id}")
        for until in (count / 3, count * 2 / 3, float("inf")):
            seconds, memory = run(command, stack, token, progress, until)
            print(f"{seconds:.0f} s, at most {memory:.0f} MB")
        stack.wait_until_drained(dataset_id, count, seconds=1800)
        sql = "SELECT count(*), count(DISTINCT number), min(number), max(number) FROM records"
        (found,) = stack.query(project_id, dataset_id, sql)
        print(f"rows, different rows, first, last: {found}")
        assert found == (count, count, 0, count - 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
