"""`manage.py records`."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from django.core.management.base import CommandError
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from config.commands import ServiceCommand
from datasets import exports, records
from datasets.models import Dataset

_TABLE_ROWS = 20


class Command(ServiceCommand):
    """Reads stored records."""

    help = (
        "Read a dataset's stored records: the latest as a table, or all of them as ndjson, csv or parquet. "
        "With --limit, the latest N. Parquet needs -o."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="of the dataset")
        parser.add_argument("--limit", type=int, metavar="N", help=f"the latest N (a table shows {_TABLE_ROWS})")
        parser.add_argument(
            "--format", choices=("table", "ndjson", "csv", "parquet"), default="table", help="default: %(default)s"
        )
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = Dataset.objects.filter(pk=options["id"]).first()
        if dataset is None:
            raise CommandError(f"There is no dataset {options['id']}.")
        limit, form = options["limit"], options["format"]
        if limit is not None and limit < 0:
            raise CommandError("--limit is a number of records.")
        if form == "parquet" and options["output"] is None:
            raise CommandError("parquet is not for a terminal: name a file with -o.")
        if form == "table":
            limit = _TABLE_ROWS if limit is None else limit
        total = records.count(dataset)
        total = total if limit is None else min(limit, total)
        if limit is None:
            source: Iterator[pa.RecordBatch] = records.batches(dataset)
        else:
            source = iter(_batches(records.latest(dataset, limit)))
        with _sink(options["output"], binary=form in ("csv", "parquet")) as out:
            _WRITERS[form](_progress(source, total, shown=options["output"] is not None), out)


def _batches(table: pa.Table | None) -> list[pa.RecordBatch]:
    return [] if table is None else table.to_batches()


@contextmanager
def _sink(path: Path | None, *, binary: bool) -> Iterator[IO[Any]]:
    if path is None:
        yield sys.stdout.buffer if binary else sys.stdout
        sys.stdout.flush()
    else:
        with path.open("wb" if binary else "w") as file:
            yield file


def _progress(source: Iterator[pa.RecordBatch], total: int, *, shown: bool) -> Iterator[pa.RecordBatch]:
    """Pass batches on, with a bar on the terminal."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, disable=not (shown and terminal.is_terminal)) as bar:
        task = bar.add_task("records", total=total)
        for batch in source:
            yield batch
            bar.advance(task, batch.num_rows)


def _write_table(source: Iterator[pa.RecordBatch], out: IO[str]) -> None:
    rows = [row for batch in source for row in exports.rows(batch)]
    if not rows:
        out.write("Nothing is stored yet.\n")
        return
    console = Console(file=out)
    texts = [{name: _shown(value) for name, value in row.items()} for row in rows]
    table = Table(*rows[0])
    for text in texts:
        table.add_row(*text.values())
    if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
        console.print(table)
        return
    for text in texts:  # too wide: one under the other
        upright = Table("column", "value")
        for name, value in text.items():
            upright.add_row(name, value)
        console.print(upright)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # as it was sent
    return "" if value is None else str(value)


def _write_ndjson(source: Iterator[pa.RecordBatch], out: IO[str]) -> None:
    for lines in exports.ndjson(source):
        out.write(lines.decode())


def _write_csv(source: Iterator[pa.RecordBatch], out: IO[bytes]) -> None:
    out.writelines(exports.csv(source))


def _write_parquet(source: Iterator[pa.RecordBatch], out: IO[bytes]) -> None:
    out.writelines(exports.parquet(source))


_WRITERS: dict[str, Callable[[Iterator[pa.RecordBatch], IO[Any]], None]] = {
    "table": _write_table,
    "ndjson": _write_ndjson,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
