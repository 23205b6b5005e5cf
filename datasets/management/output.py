"""Helpers for the commands that read records: open the output, and print rows as tables for people."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from config.common.commands import TableConsole, cell

# How many characters of a value to read: one more than a table shows, so that `_shown` knows whether to cut it.
READ_CHARACTERS = 201


@contextmanager
def sink(path: Path | None) -> Iterator[IO[bytes]]:
    """Open the output: a file, or standard output. Delete the file if the block fails."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("wb") as file:
            yield file
    except BaseException:
        if path.is_file():  # an incomplete file would look complete
            path.unlink()
        raise


def write_table(rows: Sequence[Mapping[str, object]], binary: IO[bytes], *, nothing: str) -> None:
    """Print rows as one table. If it is too wide, print a table for each row. Without rows, print `nothing`."""
    encoding = sys.stdout.encoding if binary is sys.stdout.buffer else "utf-8"
    out = io.TextIOWrapper(binary, encoding, errors="backslashreplace", write_through=True)
    try:
        console = TableConsole(file=out)
        if rows:
            _print_table([{name: cell(_shown(value)) for name, value in row.items()} for row in rows], console)
        else:
            console.print(nothing)
    finally:
        out.detach()


def _print_table(rows: list[dict[str, Text]], console: TableConsole) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
        console.print(table)
        return
    for row in rows:  # the table is too wide
        upright = Table("column", "value")
        for name, value in row.items():
            upright.add_row(name, value)
        console.print(upright)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # as in JSON
    text = "" if value is None else str(value)
    return text if len(text) < READ_CHARACTERS else f"{text[: READ_CHARACTERS - 1]}…"
