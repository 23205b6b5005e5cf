"""CSV: convert cells to values of the fields' types. An empty cell is a missing value, and `""` is an empty text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import msgspec
from django.conf import settings
from msgspec import UNSET, Raw

from config.common.errors import InvalidJson, Refused
from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc
from config.lazy import pyarrow_csv
from datasets.schemas.schema import CompiledSchema
from ingest.importing.columns import ADDS_CONTEXT, IS_EXPORT, assign, holds_json, holds_number, is_literal
from ingest.importing.files import DataFile
from ingest.importing.rows import Options, Row
from ingest.validation.json_text import is_json, not_utf8
from ingest.validation.record_errors import Problem

# An export puts a ' before texts that a spreadsheet would run as a formula: see `datasets.tables.exports.csv`. The JSON
# of a json field is such a text, too: -5 becomes '-5.
_UNDOES_QUOTES = (
    "If a text begins with ' and then one of = + - @ ', the import removes the first ', because the export has added "
    "it. If the file was exported with --raw, use --raw here, too."
)
_QUOTED = r"\A'('*[=+\-@\t\r])"
# An export writes the number -0.0 like this. In JSON, it would be the integer 0.
_NEGATIVE_ZERO = b"-0"
_ROWS_AT_ONCE = 8192
# The file is parsed in blocks of this size. A row must fit into a block, so a larger row makes the blocks grow. (With
# blocks of 10 MiB, the memory of the process grew to 400 MB; with blocks of 1 MiB, to 184 MB.)
_BLOCK_BYTES = 1024 * 1024
_GROWTH = 4
_BOM = b"\xef\xbb\xbf"
_encode = msgspec.json.Encoder().encode


class CsvSource:
    """A CSV file in UTF-8, whose first row has the names of the columns."""

    first_number = 2  # row 1 has the names of the columns
    are_lines = False

    def __init__(self, file: DataFile, options: Options, schema: CompiledSchema) -> None:
        self._file, self._options = file, options
        self._names = self._header()
        self._columns = assign(self._names, schema, options)
        self._literals = {field for _, field in self._columns.used() if is_literal(field, schema)}
        self._json = {field for field in self._literals if field in schema.types and holds_json(field, schema)}
        self._numbers = {field for field in self._literals if holds_number(field, schema)}
        self._undoes_quotes = self._columns.is_export and not options.raw
        self.notes = [IS_EXPORT] if self._columns.is_export else []
        self.notes += [_UNDOES_QUOTES] if self._undoes_quotes else []
        self.notes += [ADDS_CONTEXT] if self._columns.adds_context else []

    def fraction(self) -> float:
        return self._file.fraction()

    def _header(self) -> list[str]:
        with _reported():
            block = self._file.open().read(_BLOCK_BYTES)
            if block.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise Refused("The file is UTF-16. Save it as UTF-8.")
            if not block.lstrip(_BOM).partition(b"\n")[0].strip():
                raise Refused("The first row of the file is empty. It must have the names of the columns.")
            found: list[str] = self._reader(io.BytesIO(block + b"\n"), [], _BLOCK_BYTES).schema.names
        delimiter = next((each for each in ";\t|" if len(found) == 1 and each in found[0]), None)
        if delimiter is not None:
            shown = repr(delimiter)[1:-1]
            raise Refused(
                f"The first row has one column, “{found[0][:100]}”. If columns are separated by {shown}, use "
                f"--delimiter '{shown}'."
            )
        return found

    def _reader(self, file: BinaryIO, columns: list[str], block_bytes: int) -> pa.RecordBatchReader:
        """Read a file from its first row. Keep the values of the given columns as bytes."""
        self._malformed: list[tuple[int, str, int, int]] = []

        def skip(row: Any) -> str:
            self._malformed.append((row.number, row.text, row.actual_columns, row.expected_columns))
            return "skip"

        return pyarrow_csv.open_csv(
            pa.PythonFile(file, "r"),
            read_options=pyarrow_csv.ReadOptions(use_threads=False, block_size=block_bytes),
            parse_options=pyarrow_csv.ParseOptions(
                delimiter=self._options.delimiter,
                newlines_in_values=True,
                invalid_row_handler=skip,
                ignore_empty_lines=False,  # so that rows keep their numbers
            ),
            convert_options=pyarrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.binary()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def rows(self, begin: int) -> Iterator[Row]:
        block_bytes = _BLOCK_BYTES
        with _reported():
            while True:
                try:
                    for row in self._rows(block_bytes):
                        if row.position >= begin:
                            yield row
                            begin = row.position + 1
                    return
                except pa.ArrowInvalid as failure:
                    if "straddling" not in str(failure) or block_bytes > settings.MAX_BODY_BYTES:
                        raise
                    block_bytes *= _GROWTH

    def _rows(self, block_bytes: int) -> Iterator[Row]:
        try:
            reader = self._reader(self._file.open(), self._names, block_bytes)
        except pa.ArrowInvalid as failure:
            if "cannot infer number of columns" in str(failure):  # the file has no row after the names
                return
            raise
        position = 0
        for batch in reader:
            for offset in range(0, batch.num_rows, _ROWS_AT_ONCE):
                for text, problem in self._records(batch.slice(offset, _ROWS_AT_ONCE)):
                    for row in self._malformed_at(position):
                        position = row.position + 1
                        yield row
                    if text is not None:
                        yield Row(position, text, problem)
                    position += 1
        yield from self._malformed_at(position)

    def _malformed_at(self, position: int) -> Iterator[Row]:
        """Yield the consecutive rows, from this position on, that have too many or too few cells."""
        while self._malformed and self._malformed[0][0] == position + self.first_number:
            _, text, actual, expected = self._malformed.pop(0)
            error = f"The row has {actual} cells, not {expected}"
            yield Row(position, text.encode(), {"error": error, "code": "cells"})
            position += 1

    def _records(self, batch: pa.RecordBatch) -> Iterator[tuple[bytes | None, Problem | None]]:
        """Yield each row as the text of a record and its problem. If the row has no value, the text is None."""
        problems: dict[int, Problem] = {}
        columns = [
            self._values(batch.column(index), field, self._names[index], problems)
            for index, field in self._columns.used()
        ]
        record = self._columns.record
        for number, values in enumerate(zip(*columns, strict=True)):
            if all(value is UNSET for value in values):
                yield None, None
            else:
                yield _encode(record(*values)), problems.get(number)

    def _values(self, column: pa.Array, field: str, name: str, problems: dict[int, Problem]) -> list[Any]:
        """Return the values of cells, UNSET for an empty cell. Add to `problems` if a cell cannot be a value."""
        is_literal, is_json_field = field in self._literals, field in self._json
        if self._undoes_quotes and (is_json_field or not is_literal):
            column = pc.replace_substring_regex(column, _QUOTED, r"\1")
        if not is_literal:
            try:
                return [UNSET if cell is None else cell for cell in column.cast(pa.string()).to_pylist()]
            except pa.ArrowInvalid:
                pass
        writes_zeros = self._columns.is_export and field in self._numbers
        values: list[Any] = []
        for number, cell in enumerate(column.to_pylist()):
            if cell is None:
                values.append(UNSET)
            elif writes_zeros and cell == _NEGATIVE_ZERO:
                values.append(-0.0)
            elif is_literal and is_json(cell):
                values.append(Raw(cell))
            else:
                if not_utf8(cell) is not None:
                    problems[number] = _problem(name, "is not UTF-8")
                elif is_json_field:  # the check would accept this cell as a text
                    problems[number] = _problem(name, "is not JSON. In JSON, a text needs double quotes")
                values.append(cell.decode(errors="replace"))  # the check refuses this text if the field needs JSON
        return values


def _problem(name: str, what: str) -> Problem:
    return InvalidJson({"detail": f"The cell of the column “{name}” {what}."}).body()


@contextmanager
def _reported() -> Iterator[None]:
    """Raise Refused, with the reason that Arrow gives, if the file is not CSV."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as failure:
        if "straddling" in str(failure):
            raise Refused("A row of the file is too large, or a quotation mark is not closed.") from failure
        raise Refused(
            f"The file is not CSV in UTF-8: {failure}. Correct it, and run the same command again."
        ) from failure
