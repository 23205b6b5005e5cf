"""Compare one process of the Python client with wrk, which sends the same bodies with as many connections.

The time of a client begins with its second batch, because the first one includes the start of the program. Two programs
show the rate of a client that would check nothing: they only write the records as JSON and compress them.

.venv/bin/python -m tests.clients.python.throughput [--rounds 3] [--seconds 4]
"""

import argparse
import json
import subprocess
from collections.abc import Callable
from functools import partial

from tests.clients.python.artifact import environment
from tests.clients.speed import FIELDS, Sent, Target, compare, run, service, wrk

CONNECTIONS = 2  # the default of the client
SETUP = """
import asyncio, json, sys, time
from dataset_ingest import AsyncDatasetIngestClient, DatasetIngestClient
from dataset_ingest.delivery.batches import Batch, Item

url, key, dataset, seconds, fields = sys.argv[1:6]

def record(number):
    context = {"source": "billing-service", "request_id": f"req_{number}"}
    moment = f"2026-06-10T10:{number % 60:02}:00Z"
    return {"timestamp": moment, "context": context, "country": "RO", "plan": "pro", "amount": number / 7,
            "active": number % 2 == 0, "signup_at": "2026-06-01T08:00:00Z"}
records = [record(number) for number in range(500)]
options = dict(base_url=url, api_key=key, dataset={"id": int(dataset), "fields": json.loads(fields)},
    on_overflow="block", max_buffered_bytes=1024 * 1024)
def begin():
    global began, used, count
    began, used, count = time.monotonic(), time.process_time(), 0
def goes_on():
    return time.monotonic() - began < float(seconds)
"""
BODY = """
client = DatasetIngestClient(**options)
request = Batch([Item(client.dataset.records.encode(each)) for each in records]).request("/")
sys.stdout.buffer.write(request.content)
"""
END = """
print(json.dumps({"count": count, "seconds": time.monotonic() - began, "cpu": time.process_time() - used}))
"""
ENQUEUE = """
with DatasetIngestClient(**options) as client:
    client.send(records)
    begin()
    while goes_on():
        for each in records:
            client.enqueue(each)
        count += 500
"""
SEND = """
with DatasetIngestClient(**options) as client:
    client.send(records)
    begin()
    while goes_on():
        client.send(records)
        count += 500
"""
ASYNC_ENQUEUE = """
async def main():
    global count
    async with AsyncDatasetIngestClient(**options) as client:
        await client.send(records)
        begin()
        while goes_on():
            for each in records:
                await client.enqueue(each)
            count += 500
asyncio.run(main())
"""
ASYNC_SEND = """
async def work(client):
    global count
    while goes_on():
        await client.send(records)
        count += 500
async def main():
    async with AsyncDatasetIngestClient(**options) as client:
        await client.send(records)
        begin()
        await asyncio.gather(work(client), work(client))
asyncio.run(main())
"""
# Two threads with a connection each. `written` returns the records as JSON.
NO_CLIENT = """
import gzip, http.client, secrets, threading
def work():
    global count
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    while goes_on():
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Content-Encoding": "gzip",
            "Idempotency-Key": secrets.token_hex(16)}
        connection.request("POST", f"/datasets/{dataset}/batch", gzip.compress(written(), 1, mtime=0), headers)
        answer = connection.getresponse()
        assert answer.status == 202, answer.read()
        answer.read()
        with lock:
            count += 500
begin()
lock = threading.Lock()
threads = [threading.Thread(target=work) for _ in range(2)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""
MSGSPEC = """
import msgspec
def written():
    return b"[%b]" % b",".join([msgspec.json.encode(each) for each in records])
"""
DUMPS = """
def written():
    return json.dumps(records, separators=(",", ":")).encode()
"""
PROGRAMS = {
    "no client, msgspec": MSGSPEC + NO_CLIENT,
    "no client, json.dumps": DUMPS + NO_CLIENT,
    "enqueue": ENQUEUE,
    "send": SEND,
    "async enqueue": ASYNC_ENQUEUE,
    "async send, two at a time": ASYNC_SEND,
}


def command(target: Target, program: str) -> list[str]:
    """Return the command that runs a program with a client."""
    python = str(environment() / "bin" / "python")
    return [python, "-c", SETUP + program, *target.arguments(), json.dumps(FIELDS)]


def main() -> None:
    """Print records per second, and what a record costs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    with service(options.seconds) as target:
        body = subprocess.run(command(target, BODY), stdout=subprocess.PIPE, check=True).stdout
        senders: dict[str, Callable[[], Sent]] = {
            "wrk": partial(wrk, target, body, connections=CONNECTIONS, is_compressed=True),
            **{name: partial(run, *command(target, program + END)) for name, program in PROGRAMS.items()},
        }
        compare(target, senders, options.rounds)


if __name__ == "__main__":
    main()
