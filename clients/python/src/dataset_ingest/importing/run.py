"""Run an import from the beginning of the file, or from the place where an earlier run has stopped."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from dataset_ingest.base import answered, failed, httpx_request
from dataset_ingest.delivery.answers import error as error_of
from dataset_ingest.delivery.answers import is_accepted
from dataset_ingest.delivery.asking import ask
from dataset_ingest.delivery.batches import Batch, Item
from dataset_ingest.delivery.sending import MAX_KEY_SECONDS, Sender
from dataset_ingest.delivery.steps import Pause, Reply, Request, Step, drive
from dataset_ingest.errors import DatasetError, QuotaExceededError, ValidationError
from dataset_ingest.importing.cells import CsvSource
from dataset_ingest.importing.lines import LinesSource
from dataset_ingest.importing.parquet import ParquetSource
from dataset_ingest.importing.progress import Journal, Progress
from dataset_ingest.importing.rows import Columns, Row, Source, Stopped
from dataset_ingest.options import Options
from dataset_ingest.schema.datasets import Dataset
from dataset_ingest.schema.records import Refused

_MAX_ROWS, _MAX_BYTES = 5000, 2 * 1024 * 1024
_AGAIN = "Then run the same command again: it continues where it stopped."
# If the service does not answer or fails, the import waits without end. If it answers 429, the import waits up to a
# minute.
_OPTIONS = Options(retry_for=60.0, max_backoff=5.0)
_FORGOTTEN = (
    "The rows after row {number} were sent more than 23 hours ago, and this command cannot find out whether they were "
    "accepted. {chunk} has their records: look for them in the dataset. If they are there, run the command again with "
    "--uncertain skip. If not, run it with --uncertain send."
)


@dataclass(frozen=True)
class Place:
    """The files of an import."""

    file: Path
    progress: Path
    refused: Path


class View:
    """Shows the state of an import. This base class shows nothing."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def waiting(self, reason: str) -> None:
        """Show why the import waits. The reason is empty when it continues."""

    def sending(self, fraction: float, progress: Progress) -> None:
        """Show how much of the file was sent."""


class Import:
    """An import of one file into a dataset.

    Each chunk of rows takes these steps. If a run is killed between two steps, the next run repeats them for this
    chunk, and no row is counted twice:

    1. Write the refused rows of the chunk, its records and an Idempotency-Key.
    2. Send the records under this key until they are accepted.
    3. Write to the progress file that they were accepted.

    If step 3 of a chunk is missing in the progress file, the next run sends the same records under the same key.
    """

    def __init__(self, http: httpx.Client, dataset_id: int, place: Place, columns: Columns, view: View) -> None:
        self._http, self._dataset_id, self._place, self._columns = http, dataset_id, place, columns
        self._view = view
        self._waits_for = ""
        self._max_rows = _MAX_ROWS
        state = place.file.stat()
        source = [dataset_id, state.st_size, state.st_mtime_ns, dataclasses.astuple(columns)]
        self._journal = Journal(place.progress, place.refused, json.dumps(source))
        self._sender = Sender(f"/datasets/{dataset_id}/batch", dataset_id, _OPTIONS)

    def run(self, *, uncertain: str | None = None) -> Progress:
        """Import the file. Return how many rows were accepted and refused.

        Args:
            uncertain: What to do with a chunk whose Idempotency-Key the service may have forgotten: "send" or "skip".

        Raises:
            Stopped: The import has stopped before the end of the file.
        """
        journal = self._journal
        if journal.is_done:
            self._view.note(f"{self._place.file} was imported before: see {self._place.progress}. Nothing was sent.")
            return journal.confirmed
        if journal.key:
            self._finish_chunk(uncertain)
        if not journal.is_new:
            self._view.note(f"Continuing after row {journal.confirmed.number:,}.")
        try:
            while not self._send_chunks():
                pass
        except DatasetError as error:
            raise _stopped(error) from error
        journal.finish()
        return journal.confirmed

    def _send_chunks(self) -> bool:
        """Send the chunks of the file. Return False if rows must be read again, because the schema has changed."""
        journal = self._journal
        dataset = Dataset(self._dataset_id, self._fields())
        source = self._source(dataset)
        rows = source.rows(journal.confirmed.end, journal.confirmed.number)
        while True:
            good, bad, last = self._chunk(rows, dataset)
            if last is None:
                return True
            journal.expect(bad, last, good)
            if not self._is_accepted(good):
                return False
            self._view.sending(journal.confirmed.end / source.total, journal.confirmed)

    def _chunk(self, rows: Iterator[Row], dataset: Dataset) -> tuple[list[bytes], list[Row], Row | None]:
        """Return the good records of the next chunk, its bad rows, and its last row."""
        good: list[bytes] = []
        bad: list[Row] = []
        last, size = None, 0
        check = dataset.records.check
        for last in rows:
            problem = last.problem
            if problem is None:
                try:
                    check(last.text)
                except Refused as refused:
                    problem = refused.problems[0]
            if problem is None:
                good.append(last.text)
                size += len(last.text)
            else:
                bad.append(last._replace(problem=problem))
            if len(good) + len(bad) >= self._max_rows or size >= _MAX_BYTES:
                break
        return good, bad, last

    def _is_accepted(self, records: Sequence[bytes]) -> bool:
        """Send the last chunk, and save the outcome. Return False if the chunk must be made again."""
        journal = self._journal
        try:
            if records:
                batch = Batch([Item(text, index) for index, text in enumerate(records)], journal.key)
                drive(self._sender.send([batch], endless=True, halve=False), self._take)
        except ValidationError:  # the schema has changed since it was read
            journal.withdraw()
            return False
        except DatasetError as error:
            if error.status != 413 or len(records) == 1:
                raise
            journal.withdraw()
            self._max_rows = len(records) // 2
            return False
        journal.confirm()
        return True

    def _finish_chunk(self, uncertain: str | None) -> None:
        """Send the last chunk of an earlier run again, because it may not have been accepted."""
        journal = self._journal
        if time.time() < journal.sent_at + MAX_KEY_SECONDS or uncertain == "send":
            try:
                self._is_accepted(journal.records())
            except DatasetError as error:
                raise _stopped(error) from error
        elif uncertain == "skip":
            journal.confirm()
        else:
            raise Stopped(_FORGOTTEN.format(number=journal.confirmed.number, chunk=journal.chunk))

    def _fields(self) -> dict[str, object]:
        answer = drive(ask(f"/datasets/{self._dataset_id}/schema", self._dataset_id), self._take)
        fields: dict[str, object] = answer.body()["fields"]
        return fields

    def _source(self, dataset: Dataset) -> Source:
        name = self._place.file.name.lower()
        if name.endswith((".ndjson", ".jsonl")):
            return LinesSource(self._place.file)
        if name.endswith(".csv"):
            return CsvSource(self._place.file, self._columns, dataset)
        if name.endswith(".parquet"):
            return ParquetSource(self._place.file, self._columns, dataset)
        raise Stopped(f"{self._place.file} is not .csv, .ndjson, .jsonl or .parquet.")

    def _take(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            self._view.waiting(f"{self._waits_for}. Trying again after {step.seconds:.0f} s.")
            time.sleep(step.seconds)
        if not isinstance(step, Request):
            return None
        try:
            reply: Reply = answered(self._http.send(httpx_request(self._http, step)))
        except httpx.HTTPError as error:
            reply = failed(error)
        if reply is not None and not is_accepted(reply):
            self._waits_for = error_of(reply, None).message.rstrip(".")
        elif self._waits_for:
            self._waits_for = ""
            self._view.waiting("")
        return reply


def _stopped(error: DatasetError) -> Stopped:
    """Return why the import stops, and how it can continue."""
    if isinstance(error, QuotaExceededError):
        quota = error.quota
        return Stopped(
            f"The next {quota.get('requested'):,} records do not fit into the monthly quota: {quota.get('used'):,} of "
            f"{quota.get('limit'):,} records are used. Wait until {error.resets_at}, or get a higher quota. {_AGAIN}"
        )
    return Stopped(f"{error.message.rstrip('.')}. {_AGAIN}")
