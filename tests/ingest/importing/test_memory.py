"""The memory of an import does not depend on the size of the file."""

import csv
import json
import random
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import zstandard

from config.common.env import BASE_DIR
from datasets.models import Dataset
from tests.conftest import record
from tests.test_commands import environment

pytestmark = pytest.mark.long

ROWS = 160_000
MB = 1024**2
# The command itself, and a few chunks. The rows alone would take 240 MB more.
MAX_PEAK_BYTES = 310 * MB
# Starts a command, and prints the maximum of its memory. (If the test started the command itself, the maximum would
# include the test's own memory.)
MEASURE = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def lines() -> list[str]:
    """Return some rows that compress like real data."""
    noise = random.Random(1)
    return [json.dumps(record(country=f"{noise.getrandbits(800):x}{'x' * 1200}")) + "\n" for _ in range(1000)]


def cells() -> list[str]:
    found = [json.loads(line) for line in lines()]
    out = StringIO()
    writer = csv.DictWriter(out, found[0])
    for each in found:
        writer.writerow({**each, "context": json.dumps(each["context"]), "active": "true"})
    return out.getvalue().splitlines(keepends=True)


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_a_large_file_needs_no_more_memory_than_a_small_one(dataset: Dataset, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}.zst"
    block = "".join(lines() if form == "ndjson" else cells()).encode()
    with zstandard.open(path, "wb") as file:
        if form == "csv":
            file.write(",".join(record()).encode() + b"\n")
        for _ in range(ROWS // 1000):
            file.write(block)
    assert len(block) * ROWS / 1000 > 230 * MB
    command = [sys.executable, "-c", MEASURE, sys.executable, "manage.py", "import", str(dataset.pk), str(path)]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < MAX_PEAK_BYTES
