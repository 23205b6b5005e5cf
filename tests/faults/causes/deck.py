"""The faults of a run, in a random order that follows from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# One round of faults. A fault is tried as often as it is listed here. Then the next round begins.
PROGRAMS = (
    *["kill web child"] * 2,
    "kill web parent",
    *["kill worker parent"] * 5,
    *["kill upkeep parent"] * 2,
    "kill beat parent",
    "stop web child",
    "stop web parent",
    *["stop worker parent"] * 3,
    "stop upkeep parent",
    "stop beat parent",
)
DECK = (
    *PROGRAMS,
    *["kill redis parent"] * 2,
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
    *["import"] * 4,  # begins an import, or kills the one that runs
    *["tidy"] * 2,
    "month's end",
    "clock: the table is ahead",
    "clock: a millisecond is used up",
)
# One round of faults in runs with the clients for TypeScript and Python.
CLIENT_DECK = (
    *["kill web child"] * 2,
    *["kill web parent"] * 2,
    *["kill worker parent"] * 2,
    "kill upkeep parent",
    "kill beat parent",
    *["kill redis parent"] * 2,
    "stop web child",
    "stop web parent",
    *["stop redis parent"] * 2,
    *["network: requests cut"] * 3,
    *["network: answers cut"] * 2,
    *["network: answers lost"] * 2,
    *["network: away"] * 2,
    *["quota reached"] * 2,
    *["key revoked"] * 2,
    *["schema"] * 2,
    "schema with grace",
    *["client killed"] * 6,
)
# One round of faults in runs with servers that replicate.
REPLICAS_DECK = (
    *PROGRAMS,
    "storage: log gone",
    "storage: full",
    *["schema"] * 2,
    *["key revoked"] * 2,
    *["raced drains"] * 2,
    "tidy",
    "month's end",
    "clock: the table is ahead",
    "broker killed",
    *["redis: primary killed"] * 6,
    *["redis: replica killed"] * 2,
    *["redis: both killed"] * 2,
    *["redis: primary stopped"] * 4,
    *["redis: replica stopped"] * 2,
    *["redis: replica lags"] * 4,
    *["redis: primary killed while its replica lags"] * 6,
    *["redis: a clock that is an hour behind"] * 4,
)
SENTINEL_FAULTS = ("sentinel killed",) * 3
CLUSTER_FAULTS = (*["redis: slot moved key by key"] * 4, *["redis: slot moved at once"] * 4)
DATABASE_FAULTS = ("kill database",) * 2
# These are separate, because with them the used quota may differ from the number of stored records.
RESTORE_FAULTS = ("redis: restored from an older copy",) * 3


ONE, SENTINEL, CLUSTER = "one", "sentinel", "cluster"  # the kinds of Redis: one server, with sentinels, or a cluster


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, the pause before it, its length, and a random number that chooses the target."""

    kind: str
    pause: float
    seconds: float
    draw: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is to do."""

    seed: int
    faults: int
    seconds: float  # about how long the faults take
    database: bool = False  # use PostgreSQL, and kill it, too
    restores: bool = False  # restore Redis from older copies
    clients: bool = False  # send with the clients for TypeScript and Python
    redis: str = ONE  # or SENTINEL or CLUSTER
    wait_replicas: int = 1  # REDIS_WAIT_REPLICAS of SENTINEL and CLUSTER


def plan(options: Options) -> Iterator[Fault]:
    """Yield faults forever, always the same ones for a seed."""
    dice = random.Random(options.seed)
    pause = 0.75 * options.seconds / options.faults
    while True:
        deck = [*_deck(options)]
        deck += DATABASE_FAULTS if options.database else ()
        deck += RESTORE_FAULTS if options.restores else ()
        dice.shuffle(deck)
        for kind in deck:
            # Some faults last longer than a lease: another drain then takes over from one that is still alive.
            yield Fault(kind, dice.uniform(0.2, 1.8) * pause, dice.choice((1.0, 2.5, 5.0, 7.0)), dice.random())


def _deck(options: Options) -> tuple[str, ...]:
    if options.clients:
        return CLIENT_DECK
    if options.redis == ONE:
        return DECK
    return REPLICAS_DECK + (CLUSTER_FAULTS if options.redis == CLUSTER else SENTINEL_FAULTS)
