"""A whole deck of faults, of a new seed each time: what was accepted is stored once, and all goes on by itself.

`make faults` is the long run; `python -m tests.faults --postgresql --seed N` repeats a plan.
"""

import random

from tests.faults.run import run

FAULTS = 40


def test_nothing_is_lost_or_doubled_whatever_dies() -> None:
    report = run(seed=random.SystemRandom().randrange(10**6), faults=FAULTS, seconds=45, database=True)
    print(report.text())
    assert not report.wrong, "\n".join([*report.history, report.text()])
    assert report.tally.acknowledged > 500, report.text()
    assert report.injected == FAULTS, report.text()
