"""`python -m tests.faults --seed N --faults N --seconds N`: a fault run; exit code 1 if anything is wrong."""

import argparse
import dataclasses
import json
import random
import sys
from pathlib import Path

from tests.faults.causes.deck import CLUSTER, ONE, SENTINEL, Options
from tests.faults.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="seed of the plan of faults"
    )
    parser.add_argument("--faults", type=int, default=1000, help="number of faults (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=1800, help="approximate length of the run (default: %(default)s)"
    )
    parser.add_argument("--postgresql", action="store_true", help="use PostgreSQL instead of SQLite, and kill it, too")
    parser.add_argument("--restores", action="store_true", help="also restore Redis from older copies of its files")
    parser.add_argument("--clients", action="store_true", help="send with the clients for TypeScript and Python")
    parser.add_argument(
        "--redis",
        choices=(ONE, SENTINEL, CLUSTER),
        default=ONE,
        help="one server, two servers behind three sentinels, or a cluster of six (default: %(default)s)",
    )
    parser.add_argument(
        "--wait-replicas",
        type=int,
        default=1,
        help="REDIS_WAIT_REPLICAS with sentinels or a cluster (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args()
    if options.clients and options.redis != ONE:
        parser.error("--clients works only with one Redis server")
    print(f"seed {options.seed}", flush=True)
    report = run(
        Options(
            seed=options.seed,
            faults=options.faults,
            seconds=options.seconds,
            database=options.postgresql,
            restores=options.restores,
            clients=options.clients,
            redis=options.redis,
            wait_replicas=options.wait_replicas,
        ),
        aloud=True,
    )
    print(report.text())
    if options.json:
        options.json.write_text(json.dumps({**dataclasses.asdict(report), "injected": report.injected}, indent=1))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
