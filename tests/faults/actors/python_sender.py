"""Enqueue numbered records until the input has a line. Print as lines of JSON what becomes of each record.

Its counterpart is sender.mjs. This one has a spool: it also prints which records `enqueue` has confirmed.
"""

import json
import os
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dataset_ingest import DatasetIngestClient

printing = threading.Lock()


def say(*words: object) -> None:
    with printing:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()


def teller(number: int) -> Callable[[Any], None]:
    """Return a function that prints the outcome of a record's delivery."""

    def tell(delivery: Any) -> None:
        error = delivery.exception()
        if error is None:
            say("accepted", number)
        else:
            say("refused", number, type(error).__name__, error.code)

    return tell


def await_line(over: threading.Event) -> None:
    while sys.stdin.readline():
        over.set()
    os._exit(1)  # the run is no more


def main(settings: dict[str, Any]) -> None:
    client = DatasetIngestClient(
        base_url=settings["url"],
        api_key=settings["key"],
        dataset={"id": settings["dataset"], "fields": settings["fields"]},
        spool=settings["spool"],
        max_batch_records=50,
        flush_interval=0.05,
        max_backoff=1.0,
        timeout=4.0,
        retry_for=settings["retrySeconds"],
        close_timeout=settings["closeSeconds"],
        on_error=lambda error, records: None,
    )
    over = threading.Event()
    threading.Thread(target=await_line, args=(over,), daemon=True).start()
    sequence, name, deliveries = settings["sequence"], settings["name"], []
    while not over.is_set() and not settings["onlySpool"]:
        first, sequence = sequence, sequence + random.randint(1, 40)
        say("begun", first, sequence, time.monotonic())
        for number in range(first, sequence):
            context = {"by": name, "noise": secrets.token_hex(16)}
            record = {"timestamp": "2026-06-10T10:58:00Z", "context": context, "client": name, "sequence": number}
            delivery = client.enqueue(record | settings["values"])
            delivery.add_done_callback(teller(number))
            deliveries.append(delivery)
        say("confirmed", first, sequence)
        deliveries = [each for each in deliveries if not each.done()]
        over.wait(random.uniform(0.1, 0.6))
    client.close()
    say("closed", sum(not each.done() for each in deliveries))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
