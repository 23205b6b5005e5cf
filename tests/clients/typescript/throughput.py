"""Compare one process of the TypeScript client with wrk, which sends the same records with as many connections.

.venv/bin/python -m tests.clients.typescript.throughput [--rounds 3] [--seconds 4]
"""

import argparse
import gzip
import json
import shutil
from functools import partial
from pathlib import Path

from tests.clients.speed import BATCH, compare, run, service, wrk
from tests.clients.typescript.artifact import program
from tests.support.tools import executable

CONNECTIONS = 4  # the default of the client
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
    """Print records per second, and what a record costs: without compression, and with it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    script = shutil.copy(Path(__file__).with_name("throughput.mjs"), program())
    plain = json.dumps([{**RECORD, "amount": each / 2} for each in range(BATCH)], separators=(",", ":")).encode()
    with service(options.seconds) as target:
        command = (executable("node"), script, *target.arguments())
        for form, body in (("plain", plain), ("gzip", gzip.compress(plain, mtime=0))):
            sent_by_wrk = partial(wrk, target, body, connections=CONNECTIONS, is_compressed=form == "gzip")
            sent_by_client = partial(run, *command, form, cwd=program())
            senders = {f"wrk, {form}": sent_by_wrk, f"client, {form}": sent_by_client}
            if form == "plain":
                senders["no client, only fetch"] = partial(run, *command, "fetch", cwd=program())
            compare(target, senders, options.rounds)


if __name__ == "__main__":
    main()
