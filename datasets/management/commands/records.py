"""The command `manage.py records`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from config.common.commands import ServiceCommand
from config.common.text import visible_lines
from config.lazy import pyarrow as pa
from datasets.management.output import READ_CHARACTERS, sink, write_table
from datasets.models import Dataset
from datasets.tables import exports, records

_TABLE_ROWS = 20


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
            found = records.latest(dataset, limit, max_characters=READ_CHARACTERS)
            rows = [row for batch in found.to_batches() for row in exports.rows(batch)] if found is not None else []
            with sink(options["output"]) as out:
                write_table(rows, out, nothing="Nothing is stored yet.")
            return
        total = records.count(dataset)
        total = total if limit is None else min(limit, total)
        source = records.batches(dataset) if limit is None else records.latest_batches(dataset, limit)
        with sink(options["output"]) as out:
            _, write = exports.writer(dataset, file_format, {name for name in exports.OPTIONS if options[name]})
            shown = file_format == "csv" and out.isatty()
            for part in write(_progress(source, total, shown=options["output"] is not None)):
                out.write(visible_lines(part.decode()).encode() if shown else part)


def _progress(source: Iterator[pa.RecordBatch], total: int, *, shown: bool) -> Iterator[pa.RecordBatch]:
    """Yield the batches, and show a progress bar on a terminal."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, disable=not (shown and terminal.is_terminal)) as bar:
        task = bar.add_task("records", total=total)
        for batch in source:
            yield batch
            bar.advance(task, batch.num_rows)
