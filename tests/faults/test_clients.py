"""A short fault run with the clients for TypeScript and Python: each record settles, and accepted ones are stored once.

`python -m tests.faults --clients --faults 200 --seed N` is a longer run.
"""

import random

from tests.faults.actors.senders import ASYNCIO, NODE, PYTHON, commands
from tests.faults.causes.deck import Options
from tests.faults.run import run

FAULTS = 8


def test_fault_run_with_all_clients_loses_and_doubles_nothing() -> None:
    commands()  # skips or fails the test if a program is missing
    seed = random.SystemRandom().randrange(10**6)
    report = run(Options(seed, FAULTS, seconds=8, clients=True))
    print(report.text())
    assert not report.wrong, "\n".join([*report.history, report.text()])
    assert report.injected == FAULTS, report.text()
    for kind in (NODE, PYTHON, ASYNCIO):
        assert report.answers[f"{kind}: accepted"] > 20, report.text()
