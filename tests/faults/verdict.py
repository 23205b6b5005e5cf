"""Check what became of the records after all faults."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from deltalake.exceptions import DeltaError

from tests.faults import versions
from tests.faults.actors.operators import OperatorFailed
from tests.faults.actors.workload import Record, Truth, World
from tests.faults.causes import restoring
from tests.faults.causes.nemesis import Nemesis
from tests.support.processes.roles import unwell
from tests.support.processes.stack import Stack

# The programs of the stack, and how many worker processes each has.
EXPECTED = {"redis": 0, "web": 2, "worker": 0, "upkeep": 0, "beat": 0}
# Everything recovers within this time. Supervisor's pause before it restarts a process that kept dying is the longest.
_RECOVERED_SECONDS = 300.0


@dataclass
class Tally:
    """The number of records with each fate."""

    acknowledged: int = 0
    stored: int = 0  # distinct records
    rows: int = 0
    lost: int = 0  # acknowledged and not stored, although Redis did not lose them
    forgotten: int = 0  # acknowledged and not stored, because Redis has lost them
    doubled: int = 0  # stored more than once, although Redis did not lose their request
    repeated: int = 0  # stored more than once, because Redis lost their request while it was in progress
    strangers: int = 0  # stored, although the service or a client said that nothing had happened
    rejected: int = 0  # certainly not accepted, according to a client
    unresolved: int = 0  # may have been accepted: no client knows
    unresolved_stored: int = 0
    accepted: int = 0  # according to the ledgers
    used: int = 0  # according to the quota
    months: int = 0


@contextmanager
def reading(stack: Stack, world: World, truth: Truth) -> Iterator[None]:
    """Read the tables during the block, and note records that are found twice."""
    over = threading.Event()

    def read() -> None:
        while not over.wait(3):
            for dataset, project in world.projects.items():
                try:
                    seen = records(stack, project, dataset)
                except (DeltaError, OSError, ValueError):
                    continue  # not there yet, removed by a fault, or vacuumed while it was read
                truth.seen_twice[dataset] |= {record for record, count in seen.items() if count > 1}

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join(60)


def records(stack: Stack, project: int, dataset: int) -> Counter[Record]:
    """Return how often each record is in a table."""
    return Counter(restoring.records(Path(stack.environment["STORAGE_URL"]), project, dataset))


def reach(stack: Stack, world: World, truth: Truth, nemesis: Nemesis) -> Tally:
    """Wait until the service has recovered, and count the records. Add everything wrong to `truth.wrong`."""
    tally = Tally()
    deadline = time.monotonic() + _RECOVERED_SECONDS

    def expect(look: Callable[[], str | None]) -> None:
        while (wrong := look()) is not None:
            if time.monotonic() > deadline:
                truth.found_wrong(f"after {_RECOVERED_SECONDS:.0f} seconds: {wrong}")
                return
            time.sleep(0.5)

    expect(lambda: _unready(stack))
    expect(lambda: unwell(stack, {name: count for name, count in EXPECTED.items() if _is_own(stack, name)}))
    for dataset in world.projects:
        expect(lambda dataset=dataset: _undrained(nemesis, dataset, tally))  # type: ignore[misc]
    forgotten = restoring.forgotten(nemesis.restores, truth.sent)
    repeated = restoring.repeated(nemesis.restores, truth.sent)
    for dataset, project in world.projects.items():
        tally.accepted += int(_balance(nemesis, dataset).get("accepted", 0))
        seen = _found(stack, project, dataset, truth)
        _count(seen, truth, dataset, tally, forgotten.get(dataset, set()), repeated.get(dataset, set()))
        versions.check(stack, project, dataset, world, truth, nemesis.restores)
    expect(lambda: _unflushed(nemesis, world, tally))
    _judge(tally, truth, exact=not nemesis.restores)
    return tally


def _found(stack: Stack, project: int, dataset: int, truth: Truth) -> Counter[Record]:
    try:
        return records(stack, project, dataset)
    except (DeltaError, OSError, ValueError) as failure:
        truth.found_wrong(f"the table of dataset {dataset} cannot be read: {failure}")
        return Counter()


def _is_own(stack: Stack, program: str) -> bool:
    return program != "redis" or "REDIS_URL" not in stack.environment


def _unready(stack: Stack) -> str | None:
    try:
        with stack.client() as http:
            answer = http.get("/readyz", timeout=10)
    except httpx.HTTPError as failure:
        return f"/readyz: {failure!r}"
    return None if answer.status_code == 200 else answer.text


def _balance(nemesis: Nemesis, dataset: int) -> dict[str, Any]:
    try:
        balance = nemesis.admin.do("balance", dataset=dataset)
    except OperatorFailed as failure:
        return {"failed": str(failure)}
    assert isinstance(balance, dict)
    return balance


def _undrained(nemesis: Nemesis, dataset: int, tally: Tally) -> str | None:
    balance = _balance(nemesis, dataset)
    well = balance.get("adds_up") and balance["queued"] == 0 and balance["quarantined"] == 0
    return None if well else f"ledger {balance}"


def _unflushed(nemesis: Nemesis, world: World, tally: Tally) -> str | None:
    """Return a text if the database lacks usage that Redis has counted, or None. Write the usage into the tally."""
    tally.used = tally.months = 0
    for owner in {*world.owners.values()}:
        try:
            usage = nemesis.admin.do("usage", owner=owner)
        except OperatorFailed as failure:
            return str(failure)
        tally.used += sum(usage["redis"].values())
        tally.months = max(tally.months, len(usage["redis"]))
        if nemesis.restores:  # a restored Redis may count less for a past month, which no longer matters
            if any(usage["redis"].get(month, 0) > n for month, n in usage["database"].items()):
                return f"usage of user {owner}: {usage}"
        elif usage["database"] != usage["redis"]:
            return f"usage of user {owner}: {usage}"
    return None


def _count(
    seen: Counter[Record],
    truth: Truth,
    dataset: int,
    tally: Tally,
    forgotten: set[Record],
    repeated: set[Record],
) -> None:
    acknowledged, unresolved = truth.acknowledged[dataset], truth.unresolved[dataset]
    missing = acknowledged - seen.keys()
    doubled = {record for record, count in seen.items() if count > 1}
    tally.acknowledged += len(acknowledged)
    tally.stored += len(seen)
    tally.rows += seen.total()
    tally.rejected += len(truth.rejected[dataset])
    tally.unresolved += len(unresolved)
    tally.unresolved_stored += len(unresolved & seen.keys())
    tally.forgotten += len(missing & forgotten)
    tally.repeated += len(doubled & repeated)
    for what, found in {
        "lost": missing - forgotten,
        "doubled": doubled - repeated,
        "strangers": seen.keys() - acknowledged - unresolved,
    }.items():
        setattr(tally, what, getattr(tally, what) + len(found))
        if found:
            truth.found_wrong(f"{what} in dataset {dataset}: {len(found)}, such as {_when(found, truth)}")
    if twice := truth.seen_twice[dataset] - repeated:
        truth.found_wrong(f"a reader saw {len(twice)} records of dataset {dataset} twice")


def _when(found: Iterable[Record], truth: Truth) -> str:
    """Return some of the records, and when the requests with them were sent and answered (monotonic clock)."""
    some = sorted(found)[:5]
    times = [f"{each.began:.3f} to {each.known_at:.3f}" for each in truth.sent if {*some} & {*each.records}]
    return f"{some}, sent {times}"


def _judge(tally: Tally, truth: Truth, *, exact: bool) -> None:
    """Check that all charged and accepted records are stored, and no others.

    With restores, the quota is not `exact`: a restored Redis has lost charges, but flushes may have written them to the
    database before.
    """
    if tally.used != tally.stored if exact else tally.used > tally.acknowledged + tally.unresolved + tally.repeated:
        truth.found_wrong(f"quota: {tally.used} used, {tally.stored} stored")
    if truth.enqueued and truth.enqueued != tally.acknowledged + tally.rejected + tally.unresolved:
        truth.found_wrong(f"{truth.enqueued} records were enqueued, and not all have exactly one fate")
    if tally.accepted != tally.rows:
        truth.found_wrong(f"ledger: {tally.accepted} accepted, {tally.rows} rows stored")
    if tally.stored != tally.acknowledged - tally.lost - tally.forgotten + tally.unresolved_stored + tally.strangers:
        truth.found_wrong("the tally does not add up")
