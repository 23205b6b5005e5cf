"""The file of refused rows: a line of JSON for each row, with the row's number, its problems, and the record."""

import os
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Raw

from config.common.errors import Refused
from ingest.importing.checking import Refusal
from ingest.validation.json_text import is_json

_encode = msgspec.json.Encoder().encode


class RefusedRows:
    """The file of refused rows. It is created when the first row is refused."""

    def __init__(self, path: Path, *, size: int, is_new: bool) -> None:
        """Check that this file can be used.

        Args:
            path: The path of the file.
            size: The number of bytes that an earlier run has certainly written. The import continues after them.
            is_new: Whether the import begins, so that no earlier run has written a file.

        Raises:
            Refused: The import is new, but the file has rows. Or the file has fewer bytes than `size`.
        """
        self.path = path
        self._file: BinaryIO | None = None
        self._size = found = path.stat().st_size if path.exists() else 0
        if is_new and found:
            raise Refused(f"{path} exists. Move it away, or name another file for refused rows with --refused.")
        if found < size:
            raise Refused(
                f"{path} has refused rows of an earlier run, and it was moved or shortened. Put it back, "
                "or name it with --refused."
            )

    def write(self, refused: list[Refusal], first_number: int, at: int) -> int:
        """Write rows at the position `at` of the file, and cut off everything after them. Return the new size.

        `first_number` is the number of the row at position 0.
        """
        if self._file is None:
            if not refused and not self.path.exists():
                return at
            self._file = self.path.open("r+b" if self.path.exists() else "w+b")
        lines = b"".join(_line(each, first_number) for each in refused)
        if lines or self._size != at:
            self._file.seek(at)
            self._file.write(lines)
            self._file.truncate()
            self._file.flush()
            os.fdatasync(self._file.fileno())
        self._size = at + len(lines)
        return self._size

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _line(refusal: Refusal, first_number: int) -> bytes:
    text = refusal.row.text
    is_object = text.lstrip()[:1] == b"{" and is_json(text)
    record = Raw(text.replace(b"\n", b" ").replace(b"\r", b" ")) if is_object else text.decode(errors="replace")
    told = {"row": refusal.row.position + first_number, "error": refusal.problems[0]["error"]}
    return _encode({**told, "errors": refusal.problems, "record": record}) + b"\n"
