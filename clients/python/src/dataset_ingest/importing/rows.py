"""The rows of a file, and how they become records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from dataset_ingest.schema.datasets import Dataset
from dataset_ingest.schema.fields import ALWAYS_THERE
from dataset_ingest.schema.problems import Problem

# The columns of an export that the service sets itself for each record.
_IN_EXPORTS = frozenset(("id", "project_id", "dataset_id", "ingested_at", "__traceId"))
_NEW_EACH_TIME = _IN_EXPORTS | {"__schemaVersion"}


class Stopped(Exception):
    """The import has stopped. The text says why, and what to do."""


class Row(NamedTuple):
    """A row of the file.

    Attributes:
        number: The row's number in an editor or a spreadsheet.
        end: The position after the row, from which the next row can be read.
        text: The record as JSON text, or the text of the row if it is not a record.
        problem: Why the row is not a record.
    """

    number: int
    end: int
    text: bytes
    problem: Problem | None = None


class Source(Protocol):
    """A file that can be read from the end of any row that it has yielded. `total` is the last position."""

    total: int

    def rows(self, position: int, number: int) -> Iterator[Row]:
        """Yield the rows after `position`, where row `number` ends. At the start of the file, they are 0 and 0."""


@dataclass(frozen=True)
class Columns:
    """How the columns of a file become fields.

    Attributes:
        renamed: Column -> field.
        dropped: The columns that are left out.
        delimiter: What separates the cells of a CSV file.
    """

    renamed: dict[str, str] = field(default_factory=dict)
    dropped: Sequence[str] = ()
    delimiter: str = ","

    def fields(self, columns: Sequence[str], dataset: Dataset) -> list[str | None]:
        """Return the field of each column, or None if the column is left out.

        Raise Stopped if a column has no clear field, or a required field has no column.
        """
        absent = [name for name in (*self.renamed, *self.dropped) if name not in columns]
        if absent:
            raise Stopped(f"The file has no column {_names(absent)}. Columns: {_names(columns)}.")
        declared = {each.name: each for each in dataset.fields}
        dropped = set(self.dropped)
        if set(columns) >= _IN_EXPORTS:
            dropped |= _NEW_EACH_TIME - set(declared) - set(self.renamed)
        found = [None if name in dropped else self.renamed.get(name, name) for name in columns]
        known = [name for name in found if name is not None]
        self._check(columns, known, [*declared, *ALWAYS_THERE])
        missing = [each.name for each in dataset.fields if each.name not in known and not each.optional]
        if missing:
            raise Stopped(
                f"The file has no column for the field {_names(missing)}. Say with --map COLUMN=FIELD which column it "
                f"is: {_names(columns)}."
            )
        return found

    def _check(self, columns: Sequence[str], known: Sequence[str], allowed: Sequence[str]) -> None:
        twice = [name for name in known if known.count(name) > 1]
        if twice:
            raise Stopped(f"Several columns become {_names(twice[:1])}. Leave out all but one with --drop.")
        if "timestamp" not in known:
            raise Stopped(
                "The file has no column “timestamp”. Say with --timestamp-field which column is the time of a record: "
                f"{_names(columns)}."
            )
        unknown = [name for name in known if name not in allowed]
        if unknown:
            raise Stopped(
                f"The schema has no field {_names(unknown)}. Say with --map COLUMN=FIELD which field a column is, or "
                f"leave it out with --drop COLUMN."
            )


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
