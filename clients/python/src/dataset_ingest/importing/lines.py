"""NDJSON: each line is a record. Blank lines are ignored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataset_ingest.importing.rows import Row


class LinesSource:
    """A file of NDJSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.total = max(1, path.stat().st_size)

    def rows(self, position: int, number: int) -> Iterator[Row]:
        """Yield the lines after `position`, an offset in bytes. `number` is the number of the last line before it."""
        with self._path.open("rb") as file:
            file.seek(position)
            for line in file:
                position += len(line)
                number += 1
                if line.strip():
                    yield Row(number, position, line.strip())
