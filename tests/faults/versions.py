"""Check the schema version of each row: the row has its fields, and it was in force when the row was admitted."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tests.faults.actors.workload import OPTIONAL_FIELDS, Record, Reign, Sent, Truth, World
from tests.faults.causes.restoring import Restore
from tests.faults.causes.schemas import UNCERTAIN_SECONDS
from tests.support.processes.stack import Stack

# A row: the record, its schema version, and the optional fields that it has.
Row = tuple[Record, int, frozenset[str]]


def check(stack: Stack, project: int, dataset: int, world: World, truth: Truth, restores: Iterable[Restore]) -> None:
    """Add each kind of wrong row to `truth.wrong`."""
    try:
        found = list(_rows(Path(stack.environment["STORAGE_URL"]) / f"project_{project}" / f"dataset_{dataset}"))
    except (DeltaError, OSError, ValueError):
        return  # the verdict already reports that the table cannot be read
    sent = {record: each for each in truth.sent if each.dataset == dataset for record in each.records}
    wrong = Counter(problem(row, world.reigns[dataset], sent.get(row[0]), restores) for row in found)
    for what, count in wrong.items():
        if what:
            truth.found_wrong(f"dataset {dataset}: {count} rows {what}")


def problem(row: Row, reigns: dict[int, Reign], sent: Sent | None, restores: Iterable[Restore]) -> str:
    """Return what is wrong with a row, or an empty text."""
    _, number, optional = row
    reign = reigns.get(number)
    if reign is None:
        return f"of version {number}, which was never published"
    if optional != reign.optional:
        return f"of version {number} with {sorted(optional)}, not {sorted(reign.optional)}"
    if sent is None or any(_is_uncertain(sent, restore) for restore in restores):
        return ""
    if sent.tried > reign.ended:
        return f"of version {number}, which had ended before they were sent"
    if sent.known_at < reign.began:
        return f"of version {number}, which was not published before they were acknowledged"
    return ""


def _is_uncertain(sent: Sent, restore: Restore) -> bool:
    """Return whether a restored Redis may have had an older revision while the records were sent."""
    return sent.began < restore.restored_at + UNCERTAIN_SECONDS and sent.known_at > restore.copied_at


def _rows(path: Path) -> Iterator[Row]:
    names = [*("client", "sequence", "__schemaVersion"), *OPTIONAL_FIELDS]
    table = DeltaTable(str(path))
    there = [field.name for field in table.schema().fields if field.name in names]
    for row in table.to_pyarrow_table(columns=there).to_pylist():
        optional = frozenset(name for name in OPTIONAL_FIELDS if row.get(name) is not None)
        yield (row["client"], int(row["sequence"])), row["__schemaVersion"], optional
