"""Compare one process of the Python client with wrk, which sends the same bodies.

.venv/bin/python -m tests.clients.python.throughput

The service has one web process. wrk and the client take turns. On a busy machine, compare the CPU time instead: the
client keeps up with the web process if a record costs it no more.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.clients.python.artifact import environment
from tests.support.processes.stack import Stack, running
from tests.support.tools import executable

FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
BATCH, SECONDS, ROUNDS = 500, 5, 3
SETUP = """
import json, sys, time
from dataset_ingest import DatasetIngestClient
from dataset_ingest.delivery.batches import Batch, Item

url, key = sys.argv[1:3]
dataset, fields, seconds = map(json.loads, sys.argv[3:6])

def record(number):
    context = {"source": "billing-service", "request_id": f"req_{number}"}
    moment = f"2026-06-10T10:{number % 60:02}:00Z"
    return {"timestamp": moment, "context": context, "country": "RO", "plan": "pro", "amount": number / 7,
            "active": number % 2 == 0, "signup_at": "2026-06-01T08:00:00Z"}
records = [record(number) for number in range(500)]
client = DatasetIngestClient(base_url=url, api_key=key, dataset={"id": dataset, "fields": fields},
    on_overflow="block", max_buffered_bytes=1024 * 1024 * 2)
"""
BODY = """
request = Batch([Item(client.dataset.records.encode(each)) for each in records]).request("/")
sys.stdout.buffer.write(request.content)
"""
ENQUEUE = """
began, count = time.monotonic(), 0
used = time.process_time()
while time.monotonic() - began < seconds:
    for each in records:
        client.enqueue(each)
    count += len(records)
client.flush()
print(count / (time.monotonic() - began), (time.process_time() - used) / count * 1e6)
"""
SEND = """
began, count = time.monotonic(), 0
used = time.process_time()
while time.monotonic() - began < seconds:
    client.send(records)
    count += len(records)
print(count / (time.monotonic() - began), (time.process_time() - used) / count * 1e6)
"""
LUA = """
wrk.method = "POST"
wrk.body = io.open("{body}", "rb"):read("*a")
wrk.headers["Authorization"] = "Bearer {token}"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Content-Encoding"] = "gzip"
local refused = 0
function response(status) if status ~= 202 then refused = refused + 1; print("refused " .. status) end end
"""


def client(stack: Stack, token: str, dataset_id: int, program: str) -> bytes:
    """Run a program with a client. Return what it prints."""
    python = str(environment() / "bin" / "python")
    arguments = [stack.url, token, str(dataset_id), json.dumps(FIELDS), str(SECONDS)]
    return subprocess.run([python, "-c", SETUP + program, *arguments], stdout=subprocess.PIPE, check=True).stdout


def wrk(url: str, script: Path) -> float:
    """Return the records that the service has taken from wrk per second."""
    command = [str(executable("wrk")), "-t1", "-c16", f"-d{SECONDS}s", "-s", str(script), url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "refused" not in printed, printed[:500]
    (line,) = [line for line in printed.splitlines() if line.startswith("Requests/sec")]
    return float(line.split()[1]) * BATCH


def used(processes: list[psutil.Process]) -> float:
    """Return the seconds of CPU time that processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> int:
    """Measure, and print the medians."""
    limits = {name: str(10**12) for name in ("BACKLOG_LIMIT_BYTES", "BACKLOG_LIMIT_BYTES_PER_DATASET")}
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory) / "data", "--no-demo", "--web", "1", environment=limits) as stack,
    ):
        _, dataset_id, token = stack.make_dataset("throughput", FIELDS)
        body, script = Path(directory) / "body", Path(directory) / "batch.lua"
        body.write_bytes(client(stack, token, dataset_id, BODY))
        script.write_text(LUA.format(body=body, token=token))
        web = [psutil.Process(pid) for pid in stack.web_processes()]
        shares: dict[str, list[float]] = {"enqueue": [], "send": []}
        for _ in range(ROUNDS):
            before = used(web)
            reference = wrk(f"{stack.url}/datasets/{dataset_id}/batch", script)
            of_web = (used(web) - before) / (reference * SECONDS) * 1e6
            print(f"wrk: {reference:,.0f} records/s, {of_web:.2f} µs of the web process each")
            for name, program in (("enqueue", ENQUEUE), ("send", SEND)):
                rate, cost = map(float, client(stack, token, dataset_id, program).split())
                shares[name].append(rate / reference)
                print(f"{name}: {rate:,.0f} records/s, {rate / reference:.0%} of wrk, {cost:.2f} µs of the client each")
        print({name: f"{statistics.median(found):.0%}" for name, found in shares.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
