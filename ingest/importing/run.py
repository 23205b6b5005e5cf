"""Run an import from the beginning of the file, or from the place where an earlier run has stopped."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from django.conf import settings

from config.common import clock
from config.common.errors import Refused
from datasets import installation
from datasets.models import Dataset
from datasets.schemas.schema import CompiledSchema
from ingest.importing.cells import CsvSource
from ingest.importing.files import DataFile
from ingest.importing.journal import Description, Journal, Progress
from ingest.importing.lines import LinesSource
from ingest.importing.parquet import ParquetSource
from ingest.importing.refused import RefusedRows
from ingest.importing.rows import Chunk, Options, Source, chunks
from ingest.importing.sending import Sender

_DIGEST_CHARACTERS = 32
_BLOCK_BYTES = 1024 * 1024
_SOURCES: dict[str, Callable[[DataFile, Options, CompiledSchema], Source]] = {
    "ndjson": LinesSource,
    "csv": CsvSource,
    "parquet": ParquetSource,
}
_DONE = (
    "{file} was imported before, so nothing was sent. To import it again, wait until a day has passed since the first "
    "import, and delete {progress}."
)


class View(Protocol):
    """What the user sees of an import."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def waiting(self, reason: str) -> None:
        """Show why the import waits. The reason is empty when it continues."""

    def checking(self, fraction: float) -> None:
        """Show how much of the file was compared with the file of the earlier run."""

    def sending(self, fraction: float, progress: Progress) -> None:
        """Show how much of the file was sent."""


@dataclass(frozen=True)
class Places:
    """The files of an import."""

    file: Path
    progress: Path
    refused: Path


def import_file(dataset: Dataset, places: Places, options: Options, view: View) -> Progress:
    """Import a file into a dataset. Return how many of its rows were accepted and refused.

    Each chunk takes these steps. If the process is killed between two steps, the next run repeats them for this chunk,
    and no row is counted twice:

    1. Write the refused rows. They replace the rows that a killed run wrote for this chunk.
    2. Write to the progress file how many rows are accepted and refused if the chunk is accepted.
    3. Admit the good records, under an Idempotency-Key made of the file's digest and the chunk's place.
    4. Write to the progress file that the chunk was accepted.

    Raises Refused if the import stops before the end of the file. The same command continues it.
    """
    installation.check()
    file = DataFile(places.file)
    with ExitStack() as stack:
        stack.callback(file.close)
        as_it_was = _state(places.file)
        digest = _digest(places.file, view.checking)
        journal = stack.enter_context(closing(Journal(places.progress)))
        ours = _description(dataset, digest, as_it_was[0], options, places)
        description = journal.description or ours
        is_new = journal.description is None
        if not is_new:
            _check_same(journal.path, description, ours, journal.progress.rows)
        if journal.progress.is_done:
            view.note(_DONE.format(file=places.file, progress=places.progress))
            return journal.progress
        refused = RefusedRows(places.refused, size=journal.progress.refused_bytes, is_new=is_new)
        stack.enter_context(closing(refused))
        sender = Sender(dataset, journal, description, refused, view.waiting)
        source = _source(file, options, sender.schemas())
        if is_new:
            journal.begin(description)
        for note in [*source.notes, *([] if is_new else [f"Continuing after {journal.progress.rows:,} rows."])]:
            view.note(note)
        check_unchanged = partial(_check_unchanged, places.file, as_it_was)
        _send_all(source, sender, journal, description, view, check_unchanged)
        return journal.progress


def _send_all(
    source: Source,
    sender: Sender,
    journal: Journal,
    description: Description,
    view: View,
    check_unchanged: Callable[[], None],
) -> None:
    begin, most_records, most_bytes = journal.progress.end, description.most_records, description.most_bytes
    for chunk in _one_ahead(chunks(source.rows(begin), begin, most_records=most_records, most_bytes=most_bytes)):
        check_unchanged()
        sender.send(chunk, source)
        view.sending(source.fraction(), journal.progress)
    check_unchanged()
    journal.finish()


def _one_ahead(found: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks of `found`. A thread reads the next chunk while the caller waits for Redis."""
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
        following = reader.submit(next, found, None)
        while (chunk := following.result()) is not None:
            following = reader.submit(next, found, None)
            yield chunk


def _source(file: DataFile, options: Options, schemas: list[CompiledSchema]) -> Source:
    """Return the source that reads a file. The file's columns must fit one of the schemas."""
    latest, *earlier = schemas
    try:
        return _SOURCES[file.format](file, options, latest)
    except Refused:
        for schema in earlier:
            with suppress(Refused):
                return _SOURCES[file.format](file, options, schema)
        raise


def _state(path: Path) -> tuple[int, int]:
    """Return the size and the modification time of a file. They show whether the file has changed."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _check_unchanged(path: Path, as_it_was: tuple[int, int]) -> None:
    if _state(path) != as_it_was:
        raise Refused(
            "The file has changed while it was imported. Restore it as it was, and run the same command again."
        )


def _digest(path: Path, show: Callable[[float], None]) -> str:
    """Return the digest of a file. It shows whether an earlier run has read the same file."""
    digest = hashlib.sha256()  # fast, because processors have instructions for SHA-256
    size, read = max(1, path.stat().st_size), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            read += len(block)
            show(read / size)
    return digest.hexdigest()[:_DIGEST_CHARACTERS]


def _description(dataset: Dataset, digest: str, size: int, options: Options, places: Places) -> Description:
    return Description(
        installation=installation.our_id(),
        dataset=dataset.pk,
        digest=digest,
        size=size,
        options=options,
        refused=str(places.refused.resolve()),
        most_records=settings.MAX_BATCH_RECORDS,
        most_bytes=settings.MAX_BODY_BYTES,
        began=clock.now(),
    )


def _check_same(path: Path, earlier: Description, ours: Description, rows: int) -> None:
    """Raise Refused unless the earlier run, which sent `rows` rows, imported the same file in the same way."""
    if (earlier.installation, earlier.dataset) != (ours.installation, ours.dataset):
        raise Refused(
            f"{path} belongs to an import into dataset {earlier.dataset} of "
            f"{'this' if earlier.installation == ours.installation else 'another'} installation. Name another file "
            "with --progress."
        )
    if earlier.digest != ours.digest:
        raise Refused(
            f"The file has changed since {earlier.began:%Y-%m-%d %H:%M} UTC: it had {earlier.size:,} bytes, and has "
            f"{ours.size:,} now. {rows:,} rows of it were sent before. Restore it to continue. Or delete "
            f"{path} to import the changed file from its first row."
        )
    if earlier.options != ours.options:
        raise Refused(
            f"The earlier run had other options: {earlier.options}. Use these options to continue, because {rows:,} "
            "rows were sent."
        )
    if earlier.refused != ours.refused:
        raise Refused(f"The earlier run wrote refused rows to {earlier.refused}. Name the same file with --refused.")
