"""Enqueue numbered records until a line arrives on standard input. Print each record's fate as a line of JSON.

Its counterpart is sender.mjs. This program has a spool, and also prints which records `enqueue` has confirmed. The
first argument says which client sends: "threads" or "asyncio".
"""

import asyncio
import json
import os
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from dataset_ingest import AsyncDatasetIngestClient, DatasetIngestClient

printing = threading.Lock()
over = threading.Event()


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


def await_line() -> None:
    while sys.stdin.readline():
        over.set()
    os._exit(1)  # the fault run, which gives us our input, has ended


def options(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the client."""
    return {
        "base_url": settings["url"],
        "api_key": settings["key"],
        "dataset": {"id": settings["dataset"], "fields": settings["fields"]},
        "spool": settings["spool"],
        "max_batch_records": 50,
        "flush_interval": 0.05,
        "max_backoff": 1.0,
        "timeout": 4.0,
        "retry_for": settings["retrySeconds"],
        "close_timeout": settings["closeSeconds"],
        "on_error": lambda error, records: None,
    }


def rounds(settings: dict[str, Any]) -> Iterator[range]:
    """Yield the numbers of the next records, until a line has arrived. With `onlySpool`, yield none."""
    sequence = settings["sequence"]
    while not over.is_set() and not settings["onlySpool"]:
        first, sequence = sequence, sequence + random.randint(1, 40)
        say("begun", first, sequence, time.monotonic())
        yield range(first, sequence)


def record(settings: dict[str, Any], number: int) -> dict[str, Any]:
    name = settings["name"]
    context = {"by": name, "noise": secrets.token_hex(16)}
    known = {"timestamp": "2026-06-10T10:58:00Z", "context": context, "client": name, "sequence": number}
    return {**known, **settings["values"]}


def pause() -> float:
    """Return the seconds until the next records are enqueued."""
    return random.uniform(0.1, 0.6)


def unsettled(deliveries: list[Any]) -> list[Any]:
    return [each for each in deliveries if not each.done()]


def send(settings: dict[str, Any]) -> list[Any]:
    """Send with the client for threads. Return the deliveries that the client has left unsettled."""
    client = DatasetIngestClient(**options(settings))
    deliveries: list[Any] = []
    for numbers in rounds(settings):
        for number in numbers:
            delivery = client.enqueue(record(settings, number))
            delivery.add_done_callback(teller(number))
            deliveries.append(delivery)
        say("confirmed", numbers.start, numbers.stop)
        deliveries = unsettled(deliveries)
        over.wait(pause())
    client.close()
    return unsettled(deliveries)


async def send_async(settings: dict[str, Any]) -> list[Any]:
    """Send with the client for asyncio. Return the deliveries that the client has left unsettled."""
    deliveries: list[Any] = []
    async with AsyncDatasetIngestClient(**options(settings)) as client:
        for numbers in rounds(settings):
            for number in numbers:
                delivery = await client.enqueue(record(settings, number))
                delivery.add_done_callback(teller(number))
                deliveries.append(delivery)
            say("confirmed", numbers.start, numbers.stop)
            deliveries = unsettled(deliveries)
            await asyncio.sleep(pause())
    return unsettled(deliveries)


def main(kind: str, settings: dict[str, Any]) -> None:
    threading.Thread(target=await_line, daemon=True).start()
    left = asyncio.run(send_async(settings)) if kind == "asyncio" else send(settings)
    say("closed", len(left))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
