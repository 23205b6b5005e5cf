"""`python -m tests.datasets.queries random|fresh|size`: long runs of the tests of queries.

`random` compares the answers to 2,000 random queries with those of the oracle. `fresh` queries a record as soon as its
receipt says `stored`, 1,000 times. `size` queries a table of 50 million rows, and needs 4 GB of disk.
"""

import argparse
import os
import random
import sys

import pytest

from config.common.env import BASE_DIR

TESTS = {
    "random": "tests/datasets/queries/oracle/test_random.py",
    "fresh": "tests/datasets/queries/oracle/test_freshness.py",
    "size": "tests/datasets/api/queries/test_size.py",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.datasets.queries", description=__doc__)
    parser.add_argument("run", choices=TESTS)
    parser.add_argument("--queries", type=int, default=2000, help="random: number of queries (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="random: repeats a run"
    )
    parser.add_argument("--rounds", type=int, default=1000, help="fresh: number of rounds (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=50_000_000, help="size: number of rows (default: %(default)s)")
    options = parser.parse_args()
    os.environ |= {name.upper(): str(value) for name, value in vars(options).items()}
    return pytest.main(["-q", "-s", "-p", "no:cacheprovider", str(BASE_DIR / TESTS[options.run])])


if __name__ == "__main__":
    sys.exit(main())
