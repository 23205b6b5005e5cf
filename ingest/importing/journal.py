"""The progress file of an import. If the command is run again, it continues after the last certain line of this file.

The first line describes the import. Before the import sends a chunk, it writes a line with the numbers of accepted and
refused rows up to the chunk's end. These numbers are true if the chunk is accepted, or has no good row. When that is
known, the import writes the line again, marked as certain. A line that was not written completely counts as missing.
"""

import fcntl
import os
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from config.common import clock
from config.common.errors import Refused
from ingest.importing.rows import Options

VERSION = 1


class Description(Struct, frozen=True):
    """The dataset, the file and the options of an import. They stay the same from the first run to the last."""

    installation: str
    dataset: int
    digest: str  # digest of the file's content
    size: int  # size of the file in bytes
    options: Options
    refused: str  # the path of the file of refused rows
    most_records: int  # maximum number of records in a chunk
    most_bytes: int  # maximum size of a chunk in bytes
    began: datetime
    version: int = VERSION


class Progress(Struct, frozen=True):
    """How many of the rows before `end` were accepted and refused.

    If `is_certain` is false, the numbers are true only if the last chunk is accepted, or has no good row.
    """

    end: int = 0
    rows: int = 0
    accepted: int = 0
    refused: int = 0
    refused_bytes: int = 0  # size of the file of refused rows
    at: datetime | None = None
    # The receipt of the last chunk. It is empty in a line that is not certain, and in the line that `finish` writes. It
    # is also empty if the chunk had no good row, or if Redis had forgotten the chunk's Idempotency-Key, and the import
    # found the chunk in the table or in quarantine.
    receipt: str = ""
    is_certain: bool = False
    is_done: bool = False


class Journal:
    """The progress file, locked against a second run at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("a+b")
        except OSError as failure:
            raise Refused(
                f"The progress file cannot be written: {failure}. Name another place for it with --progress."
            ) from failure
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"Another process is running this import: it holds {path}.") from None
        self.progress = Progress()  # the last certain line
        self.expected: Progress | None = None  # the line after `progress`. Its chunk may have been accepted
        self.description: Description | None = None
        self._read()

    def _read(self) -> None:
        """Read the complete lines, and remove an incomplete line at the end."""
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            try:
                if number == 0:
                    self.description = msgspec.json.decode(line, type=Description)
                else:
                    self._keep(msgspec.json.decode(line, type=Progress))
            except msgspec.DecodeError as failure:
                raise Refused(
                    f"{self.path} is not a progress file of this release. Name another place with --progress."
                ) from failure
            end += len(line)
        self._file.truncate(end)

    def begin(self, description: Description) -> None:
        """Write the first line."""
        self.description = description
        self._append(description)

    def expect(self, progress: Progress) -> None:
        """Write the numbers that are true if the next chunk is accepted. Do this before the chunk is sent."""
        self._add(msgspec.structs.replace(progress, at=clock.now()))

    def confirm(self, receipt: str) -> None:
        """Write that the expected numbers are certain, and the chunk's receipt."""
        if self.expected is not None:
            self._add(msgspec.structs.replace(self.expected, at=clock.now(), receipt=receipt, is_certain=True))

    def finish(self) -> None:
        """Write that the whole file was sent."""
        self._add(msgspec.structs.replace(self.progress, receipt="", is_done=True, is_certain=True))

    def _add(self, progress: Progress) -> None:
        self._keep(progress)
        self._append(progress)

    def _keep(self, progress: Progress) -> None:
        if progress.is_certain:
            self.progress, self.expected = progress, None
        else:
            self.expected = progress

    def _append(self, line: Struct) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Close the file and release its lock. Delete the file if no import has begun."""
        if self.description is None:
            self.path.unlink(missing_ok=True)
        self._file.close()
