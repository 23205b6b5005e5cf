"""Rows of a file, and chunks of rows: each chunk is admitted as one batch."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from msgspec import Struct

from config.common.errors import BodyTooLarge
from ingest.validation.record_errors import Problem

# A row that is too large is cut to this number of bytes.
SHOWN_BYTES = 1000
# The bytes of a chunk without its records: the opening bracket. Each record counts one byte more than its text, for the
# comma or the closing bracket after it.
_BRACKETS = 1


class Options(Struct, frozen=True):
    """How the columns of a file become fields. A resumed import must have the options of the first run."""

    renamed: dict[str, str] = {}  # column -> field
    dropped: tuple[str, ...] = ()
    delimiter: str = ","
    raw: bool = False  # whether the CSV file was exported with --raw


class Row(Struct, gc=False):
    """One row: its record as JSON text, or a text to show if it cannot be a record."""

    position: int  # the number of rows and blank lines before this row, without a CSV file's row of names
    text: bytes
    problem: Problem | None = None


class Source(Protocol):
    """A file with records."""

    notes: list[str]  # sentences that tell the user how the import changes every row
    first_number: int  # the number of the row at position 0, as editors and spreadsheets count
    are_lines: bool  # whether the text of each row is an unchanged line of the file

    def rows(self, begin: int) -> Iterator[Row]:
        """Yield the rows from position `begin` on, without blank rows."""

    def fraction(self) -> float:
        """Return how much of the file has been read, from 0 to 1."""


class Chunk(Struct):
    """Consecutive rows. The next chunk begins at `end`."""

    begin: int
    end: int
    records: list[Row]
    refused: list[Row]  # rows that cannot be records of any schema

    @property
    def rows(self) -> int:
        return len(self.records) + len(self.refused)


def chunks(rows: Iterable[Row], begin: int, *, most_records: int, most_bytes: int) -> Iterator[Chunk]:
    """Yield rows in chunks, each as large as `most_records` and `most_bytes` allow.

    The chunks depend only on the arguments, so a second run sends the same chunks.
    """
    chunk, size = Chunk(begin, begin, [], []), _BRACKETS
    count = 0
    for found in rows:
        row = found
        length = len(row.text) + 1
        if length + _BRACKETS > most_bytes:
            row = Row(row.position, row.text[:SHOWN_BYTES], row.problem or too_large(most_bytes))
            length = len(row.text) + 1
        size += length
        count += 1
        if size > most_bytes or count > most_records:
            yield chunk
            chunk, size, count = Chunk(chunk.end, chunk.end, [], []), _BRACKETS + length, 1
        (chunk.records if row.problem is None else chunk.refused).append(row)
        chunk.end = row.position + 1
    if count:
        yield chunk


def too_large(limit: int) -> Problem:
    """Return the problem of a row that is larger than a request may be."""
    return BodyTooLarge({"limit": limit, "detail": "Only the beginning of this row is shown."}).body()


def names(columns: Iterable[str] | Mapping[str, Any]) -> str:
    """Return names for a message."""
    shown = [f"“{name[:100]}”" for name in columns]
    return ", ".join(shown[:50]) + (f" and {len(shown) - 50} more" if len(shown) > 50 else "")
