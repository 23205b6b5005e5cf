"""A short fault run with servers that replicate: with sentinels if the seed is even, with a cluster if it is odd.

The seed is new each time. `python -m tests.faults --redis cluster --seed N` repeats a plan.
"""

import random

from tests.faults.causes.deck import CLUSTER, SENTINEL, Options
from tests.faults.run import run

FAULTS = 14


def test_failovers_and_moved_slots_lose_and_double_nothing() -> None:
    seed = random.SystemRandom().randrange(10**6)
    report = run(Options(seed, FAULTS, seconds=20, redis=CLUSTER if seed % 2 else SENTINEL))
    print(report.text())
    assert not report.wrong, "\n".join([*report.history, report.text()])
    assert report.tally.acknowledged > 500, report.text()
    assert report.injected == FAULTS, report.text()
