"""The faults of a run, in a random order that follows from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# One round of faults. Each happens as often as it is listed before the next round begins.
DECK = (
    *["kill web child"] * 2,
    "kill web parent",
    *["kill worker parent"] * 5,
    *["kill upkeep parent"] * 2,
    "kill beat parent",
    *["kill redis parent"] * 2,
    "stop web child",
    "stop web parent",
    *["stop worker parent"] * 3,
    "stop upkeep parent",
    "stop beat parent",
    "stop redis parent",
    "storage: log gone",
    "storage: root gone",
    "storage: unmounted",
    *["storage: worker cannot write"] * 2,
    "storage: full",
    *["schema"] * 2,
    *["schema with grace"] * 2,
    *["key revoked"] * 2,
    *["raced drains"] * 3,
    *["import"] * 4,  # the first begins an import, and others kill it
    *["tidy"] * 2,
    "month's end",
    "clock: the table is ahead",
    "clock: a millisecond is used up",
)
DATABASE_FAULTS = ("kill database",) * 2
# These are separate, because with them the used quota may differ from the number of stored records.
RESTORE_FAULTS = ("redis: restored from an older copy",) * 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, the pause before it, its length, and a random number that chooses the target."""

    kind: str
    pause: float
    seconds: float
    draw: float  # 0 to 1


def plan(seed: int, *, pause: float, database: bool, restores: bool) -> Iterator[Fault]:
    """Yield faults forever, always the same ones for a seed. `pause` is the mean number of seconds between them."""
    dice = random.Random(seed)
    while True:
        deck = [*DECK, *(DATABASE_FAULTS if database else ()), *(RESTORE_FAULTS if restores else ())]
        dice.shuffle(deck)
        for kind in deck:
            # Some faults last longer than a lease: another drain then takes over from one that is still alive.
            yield Fault(kind, dice.uniform(0.2, 1.8) * pause, dice.choice((1.0, 2.5, 5.0, 7.0)), dice.random())
