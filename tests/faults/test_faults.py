"""A short fault run with a new seed each time: each accepted record is stored once, and the service recovers by itself.

`make faults` is the long run. `python -m tests.faults --postgresql --seed N` repeats a plan. With an odd seed, Redis is
also restored from older copies (`--restores`).
"""

import random
from collections.abc import Iterable

import pytest

from ingest.queue.formats import packed
from tests.faults.actors.workload import OPTIONAL_FIELDS, Batch, Record, Reign, Sent
from tests.faults.causes.deck import Options
from tests.faults.causes.restoring import Restore, forgotten, repeated
from tests.faults.run import run
from tests.faults.versions import problem

FAULTS = 44


@pytest.mark.parametrize("form", ["array", "lines"])
@pytest.mark.parametrize("optional", [[], OPTIONAL_FIELDS], ids=["few fields", "all fields"])
def test_large_batches_of_the_workload_are_queued_compressed(form: str, optional: Iterable[str]) -> None:
    batch = Batch(1, form, [("client 1", number) for number in range(200)], frozenset(optional))
    _, body, _ = batch.request()
    assert len(packed(body)) < len(body)
    assert batch.request()[1] == body, "a repeated request has the same body"


def test_fault_run_loses_and_doubles_nothing() -> None:
    seed = random.SystemRandom().randrange(10**6)
    report = run(Options(seed, FAULTS, seconds=48, database=True, restores=bool(seed % 2)))
    print(report.text())
    assert not report.wrong, "\n".join([*report.history, report.text()])
    assert report.tally.acknowledged > 500, report.text()
    assert report.injected == FAULTS, report.text()


@pytest.mark.parametrize(
    ("row", "tried", "known_at", "wrong"),
    [
        ((1, []), 2.0, 3.0, ""),
        ((1, []), 5.0, 6.0, ""),  # sent before the end
        ((1, []), 9.0, 9.5, "which had ended"),
        ((2, ["note"]), 5.0, 6.0, ""),
        ((2, ["note"]), 1.0, 3.0, "which was not published"),
        ((2, []), 5.0, 6.0, "with [], not ['note']"),
        ((1, ["note"]), 5.0, 6.0, "with ['note'], not []"),
        ((3, ["note"]), 5.0, 6.0, "which was never published"),
    ],
)
def test_version_of_a_row_must_be_in_force(
    row: tuple[int, list[str]], tried: float, known_at: float, wrong: str
) -> None:
    reigns = {1: Reign(frozenset(), 0.0, 8.0), 2: Reign(frozenset({"note"}), 4.0, 99.0)}
    number, optional = row
    sent = Sent(1, [("a", 1)], tried, known_at, tried)
    said = problem((("a", 1), number, frozenset(optional)), reigns, sent, [])
    assert (wrong in said) if wrong else not said
    assert not problem((("a", 1), 1, frozenset()), reigns, sent, [Restore(tried, known_at, {})])


@pytest.mark.parametrize(
    ("began", "known_at", "stored", "may_be_lost", "may_be_doubled"),
    [
        (1.0, 2.0, set(), False, False),  # acknowledged before the copy: the copy has it
        (1.0, 4.0, set(), True, False),
        (4.0, 5.0, set(), True, False),
        (4.0, 5.0, {("a", 1)}, False, False),  # in a table when the copy was put back
        (5.0, 7.0, set(), True, True),  # in progress when the copy was put back
        (5.0, 7.0, {("a", 1)}, False, True),
        (7.0, 8.0, set(), False, False),  # sent to the restored Redis
    ],
)
def test_restore_excuses_only_what_redis_lost(
    began: float, known_at: float, stored: set[Record], may_be_lost: bool, may_be_doubled: bool
) -> None:
    restore = Restore(copied_at=3.0, restored_at=6.0, stored={1: stored})
    sent = [Sent(1, [("a", 1)], began, known_at)]
    assert (("a", 1) in forgotten([restore], sent).get(1, set())) is may_be_lost
    assert (("a", 1) in repeated([restore], sent).get(1, set())) is may_be_doubled
