"""`manage.py import`."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from config.common.commands import ServiceCommand
from config.common.text import counted, visible
from datasets.models import Dataset
from ingest.importing.journal import Progress
from ingest.importing.rows import Options
from ingest.importing.run import Places, import_file

# The exit code if the whole file was sent, and rows of it were refused. 1 means that the import has stopped.
_SOME_REFUSED = 3


class Command(ServiceCommand):
    """Import a file."""

    help = (
        "Import the records of an NDJSON, CSV or Parquet file. Rows are checked and charged as if a client had sent "
        "them. If the command is interrupted, run it again: it continues, and no row is stored twice. Rows that do not "
        "match the schema go to a file of their own, with the reason. Exit with 3 if there are such rows, and with 1 "
        "if the import stopped before the end of the file. docs/import.md says how values become records."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="ID of the dataset")
        parser.add_argument(
            "file",
            type=Path,
            help="path of the file: .ndjson, .jsonl or .csv, also with .gz or .zst, or .parquet. Standard input "
            "cannot be imported, because it cannot be read again after an interruption",
        )
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="COLUMN=FIELD",
            help="the column becomes this field. Repeat this option for each column whose name differs from its field",
        )
        parser.add_argument(
            "--timestamp-column", metavar="COLUMN", help="the same as --map COLUMN=timestamp: the time of each record"
        )
        parser.add_argument(
            "--drop", action="append", default=[], metavar="COLUMN", help="leave out this column. It may be repeated"
        )
        parser.add_argument(
            "--delimiter", default=",", metavar="CHARACTER", help="csv: what separates the cells of a row (default: ,)"
        )
        parser.add_argument("--raw", action="store_true", help="csv: the file was exported with --raw")
        parser.add_argument(
            "--refused", type=Path, metavar="PATH", help="file for refused rows (default: FILE.refused.ndjson)"
        )
        parser.add_argument(
            "--progress",
            type=Path,
            metavar="PATH",
            help="progress file: it says how far the import has come (default: FILE.import-ID). While the progress "
            "file exists, FILE is not imported a second time",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = Dataset.objects.filter(pk=options["id"]).first()
        if dataset is None:
            raise CommandError(f"There is no dataset {options['id']}.")
        file: Path = options["file"]
        if str(file) == "-":
            raise CommandError(
                "Standard input cannot be read again after an interruption. Write it to a file, and import the file."
            )
        places = Places(
            file,
            options["progress"] or file.with_name(f"{file.name}.import-{dataset.pk}"),
            options["refused"] or file.with_name(f"{file.name}.refused.ndjson"),
        )
        try:
            with _shown() as view:
                progress = import_file(dataset, places, _options(options), view)
        except KeyboardInterrupt:
            self.stderr.write("Stopped. Run the same command again: it continues where it stopped.")
            sys.exit(130)
        self._sum_up(dataset, places, progress)

    def _sum_up(self, dataset: Dataset, places: Places, progress: Progress) -> None:
        accepted = f"{counted(progress.accepted)} of {counted(progress.rows, 'row')}"
        self.stdout.write(f"Dataset {dataset.pk} has accepted {accepted}.")
        if progress.refused:
            verb = "was" if progress.refused == 1 else "were"
            self.stderr.write(f"{counted(progress.refused, 'row')} {verb} refused: see {places.refused}.")
            sys.exit(_SOME_REFUSED)


def _options(given: dict[str, Any]) -> Options:
    """Return how columns become fields. Raises CommandError."""
    pairs = [each.rpartition("=") for each in given["map"]]
    if given["timestamp_column"]:
        pairs.append((given["timestamp_column"], "=", "timestamp"))
    wrong = [given["map"][number] for number, (column, _, field) in enumerate(pairs) if not (column and field)]
    if wrong:
        raise CommandError(f"--map {wrong[0]}: write --map COLUMN=FIELD.")
    renamed = {column: field for column, _, field in pairs}
    twice = [column for column in renamed if column in given["drop"] or [p[0] for p in pairs].count(column) > 1]
    if twice:
        raise CommandError(f"--map or --drop name the column “{twice[0]}” twice.")
    delimiter = given["delimiter"].replace("\\t", "\t")
    if len(delimiter) != 1 or not delimiter.isascii():
        raise CommandError("--delimiter must be one ASCII character, for example ';'.")
    return Options(renamed, tuple(sorted(given["drop"])), delimiter, given["raw"])


class _Shown:
    """Shows an import: a bar on a terminal, and sentences."""

    def __init__(self, console: Console, bars: Bars) -> None:
        self._console, self._bars = console, bars
        self._task = bars.add_task("reading", total=1.0)
        self._reason = ""

    def note(self, text: str) -> None:
        self._console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    def waiting(self, reason: str) -> None:
        self._bars.update(self._task, description="waiting" if reason else "sending")
        if reason != self._reason:
            self.note(f"Waiting: {reason}" if reason else "Continuing.")
            self._reason = reason

    def checking(self, fraction: float) -> None:
        self._bars.update(self._task, completed=fraction)

    def sending(self, fraction: float, progress: Progress) -> None:
        said = f"{progress.accepted:,} accepted, {progress.refused:,} refused"
        self._bars.update(self._task, description=said, completed=fraction)


@contextmanager
def _shown() -> Iterator[_Shown]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        yield _Shown(console, bars)
