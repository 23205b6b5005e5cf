"""A whole deck of faults, of a new seed each time: what was accepted is stored once, and all goes on by itself.

`make faults` is the long run; `python -m tests.faults --postgresql --seed N` repeats a plan. With an odd seed, Redis is
restored from older copies, too (`--restores`).
"""

import random
from collections.abc import Iterable

import pytest

from ingest.queue import packed
from tests.faults.run import run
from tests.faults.workload import OPTIONAL_FIELDS, Batch

FAULTS = 44


@pytest.mark.parametrize("form", ["array", "lines"])
@pytest.mark.parametrize("optional", [[], OPTIONAL_FIELDS], ids=["few fields", "all fields"])
def test_large_batches_of_the_workload_are_queued_compressed(form: str, optional: Iterable[str]) -> None:
    batch = Batch(1, form, [("client 1", number) for number in range(200)], frozenset(optional))
    _, body, _ = batch.request()
    assert len(packed(body)) < len(body)
    assert batch.request()[1] == body, "sent again, it is the same"


def test_nothing_is_lost_or_doubled_whatever_dies() -> None:
    seed = random.SystemRandom().randrange(10**6)
    report = run(seed=seed, faults=FAULTS, seconds=48, database=True, restores=bool(seed % 2))
    print(report.text())
    assert not report.wrong, "\n".join([*report.history, report.text()])
    assert report.tally.acknowledged > 500, report.text()
    assert report.injected == FAULTS, report.text()
