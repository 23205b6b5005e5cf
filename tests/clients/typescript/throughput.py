"""Measure how much of the service's throughput one process with the TypeScript client reaches.

.venv/bin/python -m tests.clients.typescript.throughput [--rounds 3] [--seconds 4]

wrk sends prepared bodies of the same 500 records to the same web process, uncompressed. Rounds of both alternate.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.load import Target, running
from tests.clients.typescript.artifact import program, run
from tests.support.processes.stack import running as stack_running
from tests.support.tools import executable

BATCH = 500
FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
RECORD = {
    "timestamp": "2026-06-10T10:58:00Z",
    "context": {"source": "billing-service", "request_id": "req_123"},
    "country": "RO",
    "plan": "pro",
    "amount": 42.5,
    "active": True,
    "signup_at": "2026-06-01T08:00:00Z",
}


def main() -> None:
    """Print records per second: wrk, the client without compression, and the client as it is."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    script = shutil.copy(Path(__file__).with_name("throughput.mjs"), program())
    found: dict[str, list[float]] = {"wrk": [], "plain": [], "gzip": []}
    with tempfile.TemporaryDirectory() as name, stack_running(Path(name) / "data", "--no-demo", "--web", "1") as stack:
        _, dataset_id, token = stack.make_dataset("throughput", FIELDS)
        body = Path(name) / "body.json"
        body.write_text(json.dumps([{**RECORD, "amount": each / 2} for each in range(BATCH)], separators=(",", ":")))
        target = Target(f"/datasets/{dataset_id}/batch", token)
        for _ in range(options.rounds):
            with running(stack.url, [target], [body], connections=4, seconds=options.seconds, check=True) as load:
                found["wrk"].append(load.result().per_second * BATCH)
            for form in ("plain", "gzip"):
                arguments = (stack.url, token, str(dataset_id), str(options.seconds), form)
                said = json.loads(run(executable("node"), script, *arguments, cwd=program()))
                found[form].append(said["accepted"] / said["seconds"])
    best = statistics.median(found["wrk"])
    for form, rates in found.items():
        print(f"{form}: {statistics.median(rates):,.0f} records/s, {statistics.median(rates) / best:.0%} of wrk")


if __name__ == "__main__":
    main()
