"""What goes wrong: faults dealt at random from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# One deck of faults: each is dealt as often as it stands here before any is dealt again.
DECK = (
    *["kill web child"] * 2,
    "kill web parent",
    *["kill worker child"] * 3,
    *["kill worker parent"] * 2,
    "kill upkeep child",
    "kill upkeep parent",
    "kill beat parent",
    *["kill redis parent"] * 2,
    "stop web child",
    "stop web parent",
    *["stop worker child"] * 2,
    "stop worker parent",
    "stop upkeep child",
    "stop beat parent",
    "stop redis parent",
    "storage: log gone",
    "storage: root gone",
    "storage: unmounted",
    *["storage: worker cannot write"] * 2,
    "storage: full",
    *["schema"] * 2,
    *["key revoked"] * 2,
    *["raced drains"] * 3,
    *["tidy"] * 2,
    "month's end",
    "clock: the table is ahead",
    "clock: a millisecond is used up",
)
DATABASE_FAULTS = ("kill database",) * 2
# Apart: with them, quota used need not be exactly what is stored.
RESTORE_FAULTS = ("redis: restored from an older copy",) * 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One card: what, after how long, for how long, and which of several targets."""

    kind: str
    pause: float
    seconds: float
    draw: float  # 0 to 1


def plan(seed: int, *, pause: float, database: bool, restores: bool) -> Iterator[Fault]:
    """The faults of a seed, without end; `pause`: seconds between two of them, on average."""
    dice = random.Random(seed)
    while True:
        deck = [*DECK, *(DATABASE_FAULTS if database else ()), *(RESTORE_FAULTS if restores else ())]
        dice.shuffle(deck)
        for kind in deck:
            # Longer than a lease, at times: then another drain takes over from one that is not dead.
            yield Fault(kind, dice.uniform(0.2, 1.8) * pause, dice.choice((1.0, 2.5, 5.0, 7.0)), dice.random())
