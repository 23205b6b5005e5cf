"""What an import keeps on disk, so that a second run continues where the first run stopped."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from dataset_ingest.importing.rows import Row, Stopped

_CHANGED = (
    "The file or the options have changed since the import began. Restore them. Or delete {path} to begin again, but "
    "then the rows that were accepted are imported a second time."
)


class Progress(Struct, frozen=True):
    """How far an import has come.

    Attributes:
        end: The position in the file after the last chunk.
        number: The number of the last row before this position.
        accepted: The rows that are accepted.
        refused: The rows that are refused.
        refused_bytes: The length of the file of refused rows.
    """

    end: int = 0
    number: int = 0
    accepted: int = 0
    refused: int = 0
    refused_bytes: int = 0


class _Noted(Struct, frozen=True):
    """The content of the progress file.

    Attributes:
        source: What identifies the file and the options.
        confirmed: The progress that is certain.
        expected: The progress if the last chunk is accepted. None if it is known whether the chunk was accepted.
        key: The Idempotency-Key of the last chunk.
        sent_at: The Unix time at which the last chunk was first sent.
        is_done: Whether the whole file was imported.
    """

    source: str
    confirmed: Progress = Progress()
    expected: Progress | None = None
    key: str = ""
    sent_at: float = 0.0
    is_done: bool = False


class Journal:
    """The files of an import: its progress, the chunk that is being sent, and the refused rows."""

    def __init__(self, path: Path, refused: Path, source: str) -> None:
        self._path, self._refused = path, refused
        self.chunk = path.with_name(f"{path.name}.chunk")
        self.is_new = not path.exists()
        if self.is_new:
            self._noted = _Noted(source)
            if refused.exists() and refused.stat().st_size:
                raise Stopped(f"{refused} has the refused rows of another import. Move it away, or pass --refused.")
            return
        self._noted = msgspec.json.decode(path.read_bytes(), type=_Noted)
        if self._noted.source != source:
            raise Stopped(_CHANGED.format(path=path))
        if refused.exists():
            os.truncate(refused, (self._noted.expected or self._noted.confirmed).refused_bytes)

    @property
    def confirmed(self) -> Progress:
        """The progress that is certain."""
        return self._noted.confirmed

    @property
    def is_done(self) -> bool:
        """Whether the whole file was imported."""
        return self._noted.is_done

    @property
    def key(self) -> str:
        """The Idempotency-Key of the last chunk, or an empty text if it is known whether the chunk was accepted."""
        return self._noted.key if self._noted.expected else ""

    @property
    def sent_at(self) -> float:
        """The Unix time at which the last chunk was first sent."""
        return self._noted.sent_at

    def expect(self, refused: Iterable[Row], last: Row, texts: list[bytes]) -> None:
        """Write the refused rows of the next chunk, its records, and the progress if the records are accepted."""
        before = self.confirmed
        lines = [_line(row) for row in refused]
        if lines:
            with self._refused.open("ab") as file:
                file.write(b"".join(lines))
        self.chunk.write_bytes(b"[%b]" % b",".join(texts))
        expected = Progress(
            last.end,
            last.number,
            before.accepted + len(texts),
            before.refused + len(lines),
            before.refused_bytes + sum(map(len, lines)),
        )
        self._write(expected=expected, key=secrets.token_hex(16), sent_at=time.time())

    def records(self) -> list[bytes]:
        """Return the records of the last chunk."""
        return [bytes(each) for each in msgspec.json.decode(self.chunk.read_bytes(), type=list[Raw])]

    def confirm(self) -> None:
        """Write to the progress file that the last chunk was accepted."""
        self._write(confirmed=self._noted.expected, expected=None)

    def withdraw(self) -> None:
        """Write to the progress file that the last chunk was not accepted."""
        if self._refused.exists():
            os.truncate(self._refused, self.confirmed.refused_bytes)
        self._write(expected=None)

    def finish(self) -> None:
        """Write to the progress file that the whole file was imported."""
        self._write(is_done=True)
        self.chunk.unlink(missing_ok=True)

    def _write(self, **changes: object) -> None:
        self._noted = msgspec.structs.replace(self._noted, **changes)
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_bytes(msgspec.json.encode(self._noted))
        new.replace(self._path)


def _line(row: Row) -> bytes:
    """Return a refused row as a line of the file of refused rows."""
    said = {} if row.problem is None else dataclasses.asdict(row.problem)
    told = {name: value for name, value in said.items() if value is not None}
    try:
        msgspec.json.decode(row.text)
        record: object = Raw(row.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = row.text.decode(errors="replace")
    return msgspec.json.encode({"row": row.number, **told, "record": record}) + b"\n"
