"""Open a file. The extension of its name shows its format, and whether it is compressed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from config.common.errors import Refused
from config.lazy import pyarrow as pa

# The format of a file, by the extension of its name.
FORMATS = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".parquet": "parquet"}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class DataFile:
    """A file that is read from its beginning, decompressed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compression = _COMPRESSIONS.get(path.suffix.lower())
        inner = Path(path.stem).suffix if self.compression else path.suffix
        found = FORMATS.get(inner.lower())
        if found is None or (found == "parquet" and self.compression):
            raise Refused(
                f"“{path.name}” is not a name of a file that can be imported. Name it .ndjson, .jsonl or .csv, "
                "with .gz or .zst if it is compressed, or .parquet."
            )
        self.format = found
        self.size = path.stat().st_size
        self._file: BinaryIO | None = None

    def open(self) -> BinaryIO:
        """Open the file at its beginning. If it is open already, close it first."""
        self.close()
        self._file = self.path.open("rb")
        if self.compression is None:
            return self._file
        stream = pa.CompressedInputStream(pa.PythonFile(self._file, "r"), self.compression)
        return io.BufferedReader(stream)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def fraction(self) -> float:
        """Return how much of the file has been read, from 0 to 1."""
        return self._file.tell() / max(1, self.size) if self._file is not None and not self._file.closed else 0.0
