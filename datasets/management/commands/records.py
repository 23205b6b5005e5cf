"""The command `manage.py records`."""

from __future__ import annotations

import io
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from config.common.commands import ServiceCommand, TableConsole, cell
from config.common.text import visible_lines
from config.lazy import pyarrow as pa
from datasets.models import Dataset
from datasets.tables import exports, records

_TABLE_ROWS = 20
_CELL = 201  # characters to read of a value: one more than a table shows, which tells that it was cut


class Command(ServiceCommand):
    """Read stored records."""

    help = (
        "Read a dataset's stored records: the latest as a table, or all of them as ndjson, csv or parquet. "
        "A table shows the first 200 characters of each value. Parquet needs -o."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="ID of the dataset")
        parser.add_argument(
            "--limit",
            type=int,
            metavar="N",
            help=f"show only the N latest records (default: {_TABLE_ROWS} in a table, else all)",
        )
        parser.add_argument(
            "--format", choices=("table", "ndjson", "csv", "parquet"), default="table", help="default: %(default)s"
        )
        for name, about in exports.OPTIONS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=about)
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file, not to standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = Dataset.objects.filter(pk=options["id"]).first()
        if dataset is None:
            raise CommandError(f"There is no dataset {options['id']}.")
        limit, file_format = options["limit"], options["format"]
        if limit is not None and limit < 0:
            raise CommandError("--limit must be 0 or more.")
        if file_format == "parquet" and options["output"] is None:
            raise CommandError("A terminal cannot show parquet. Name a file with -o.")
        if file_format == "table":
            limit = _TABLE_ROWS if limit is None else limit
            with _sink(options["output"]) as out:
                _write_table(records.latest(dataset, limit, max_characters=_CELL), out)
            return
        total = records.count(dataset)
        total = total if limit is None else min(limit, total)
        source = records.batches(dataset) if limit is None else records.latest_batches(dataset, limit)
        with _sink(options["output"]) as out:
            _, write = exports.writer(dataset, file_format, {name for name in exports.OPTIONS if options[name]})
            shown = file_format == "csv" and out.isatty()
            for part in write(_progress(source, total, shown=options["output"] is not None)):
                out.write(visible_lines(part.decode()).encode() if shown else part)


@contextmanager
def _sink(path: Path | None) -> Iterator[IO[bytes]]:
    """Open the output. Delete the file if the block fails."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("wb") as file:
            yield file
    except BaseException:
        if path.is_file():  # an incomplete export would look complete
            path.unlink()
        raise


def _progress(source: Iterator[pa.RecordBatch], total: int, *, shown: bool) -> Iterator[pa.RecordBatch]:
    """Yield the batches, and show a progress bar on a terminal."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, disable=not (shown and terminal.is_terminal)) as bar:
        task = bar.add_task("records", total=total)
        for batch in source:
            yield batch
            bar.advance(task, batch.num_rows)


def _write_table(found: pa.Table | None, binary: IO[bytes]) -> None:
    rows = [row for batch in found.to_batches() for row in exports.rows(batch)] if found is not None else []
    encoding = sys.stdout.encoding if binary is sys.stdout.buffer else "utf-8"
    out = io.TextIOWrapper(binary, encoding, errors="backslashreplace", write_through=True)
    try:
        _print_table(
            [{name: cell(_shown(value)) for name, value in row.items()} for row in rows], TableConsole(file=out)
        )
    finally:
        out.detach()


def _print_table(rows: list[dict[str, Text]], console: Console) -> None:
    if not rows:
        console.print("Nothing is stored yet.")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
        console.print(table)
        return
    for row in rows:  # the table is too wide: print one table per record
        upright = Table("column", "value")
        for name, value in row.items():
            upright.add_row(name, value)
        console.print(upright)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # as in JSON
    text = "" if value is None else str(value)
    return text if len(text) < _CELL else f"{text[: _CELL - 1]}…"
