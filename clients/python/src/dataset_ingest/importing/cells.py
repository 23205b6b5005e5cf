"""CSV: the first row has the names of the columns.

An empty cell means that there is no value, and `""` means an empty text. For numbers, integers, booleans, arrays,
`json` and `context`, a cell contains JSON. For other fields, it contains the text of the value.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Raw

from dataset_ingest.importing.rows import Columns, Row, Stopped
from dataset_ingest.schema.datasets import Dataset
from dataset_ingest.schema.problems import Problem

_LITERAL = ("number", "integer", "boolean", "json")
_encode = msgspec.json.encode
_skip_value = msgspec.json.Decoder(Raw).decode

csv.field_size_limit(64 * 1024 * 1024)


class CsvSource:
    """A CSV file in UTF-8."""

    def __init__(self, path: Path, columns: Columns, dataset: Dataset) -> None:
        self._path, self._delimiter = path, columns.delimiter
        self.total = max(1, path.stat().st_size)
        with path.open("rb") as file:
            lines = _Lines(file)
            names = next(self._reader(lines), [])
            self._begin = lines.position
        if names:
            names[0] = names[0].removeprefix("\ufeff")
        fields = columns.fields(names, dataset)
        kinds = {each.name: each.type for each in dataset.fields}
        self._cells = [None if field is None else _writer(field, kinds.get(field, field)) for field in fields]
        self._adds_context = "context" not in fields

    def _reader(self, lines: _Lines) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def rows(self, position: int, number: int) -> Iterator[Row]:
        """Yield the rows after `position`, an offset in bytes. `number` is the number of the last row before it."""
        with self._path.open("rb") as file:
            lines = _Lines(file)
            lines.seek(position or self._begin)
            number = number or 1  # the names of the columns are row 1
            try:
                for cells in self._reader(lines):
                    number += 1
                    raw = lines.taken()
                    if cells:
                        yield self._row(number, lines.position, cells, raw)
            except (csv.Error, UnicodeDecodeError) as error:
                text = f"Row {number + 1} is not CSV in UTF-8: {error}. Correct it, and run the same command again."
                raise Stopped(text) from error

    def _row(self, number: int, end: int, cells: Sequence[str], raw: str) -> Row:
        if len(cells) != len(self._cells):
            wrong = Problem(f"The row has {len(cells)} cells, not {len(self._cells)}", "cells")
            return Row(number, end, raw.rstrip("\r\n").encode(), wrong)
        quoted: Sequence[bool] = ()
        if '""' in raw and "" in cells:
            quoted = _quoted(raw.rstrip("\r\n"), self._delimiter)
        members = [b'"context":{}'] if self._adds_context else []
        problem: Problem | None = None
        for index, write in enumerate(self._cells):
            cell = cells[index]
            if write is not None and (cell or (quoted and quoted[index])):
                member, is_valid = write(cell)
                members.append(member)
                problem = problem or (None if is_valid else _not_json(member))
        return Row(number, end, b"{%b}" % b",".join(members), problem)


class _Lines:
    """Yields the lines of a file as texts. Keeps the offset after the last line, and the lines since the last row."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0
        self._taken: list[str] = []

    def seek(self, position: int) -> None:
        self._file.seek(position)
        self.position = position

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            text = line.decode()
            self.position += len(line)
            self._taken.append(text)
            yield text

    def taken(self) -> str:
        """Return the text since the last call."""
        text = self._taken[0] if len(self._taken) == 1 else "".join(self._taken)
        self._taken.clear()
        return text


def _quoted(raw: str, delimiter: str) -> list[bool]:
    """Return for each cell of a row whether it is in quotes."""
    found = []
    for cell in re.finditer(rf'(?:^|{re.escape(delimiter)})("(?:[^"]|"")*")?[^{re.escape(delimiter)}]*', raw):
        found.append(cell[1] is not None)
    return found


def _writer(field: str, kind: str) -> Callable[[str], tuple[bytes, bool]]:
    """Return a function that returns the member for a cell, and False if the cell of a json field is not JSON."""
    name = _encode(field) + b":"
    if kind not in _LITERAL and not kind.endswith("[]") and field != "context":
        return lambda cell: (name + _encode(cell), True)

    def write(cell: str) -> tuple[bytes, bool]:
        text = cell.encode()
        try:
            _skip_value(text)
        except msgspec.DecodeError:  # send the cell as a text: the check refuses it, except in a json field
            return name + _encode(cell), kind != "json"
        return name + text, True

    return write


def _not_json(member: bytes) -> Problem:
    name = msgspec.json.decode(b"{%b}" % member, type=dict[str, Raw]).popitem()[0]
    detail = f"The cell of the column “{name}” is not JSON. In JSON, a text needs double quotes."
    return Problem("Invalid JSON body", "invalid_json", field=name, detail=detail)
