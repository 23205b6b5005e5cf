"""NDJSON: one record per line, as in the body of a batch. Lines of an export become records again."""

from collections.abc import Iterator
from typing import BinaryIO

import msgspec
from django.conf import settings
from msgspec import Raw

from config.common.errors import Refused
from datasets.schemas.schema import CompiledSchema
from ingest.importing.columns import ADDS_CONTEXT, IS_EXPORT, holds_json, is_export, left_out
from ingest.importing.files import DataFile
from ingest.importing.rows import SHOWN_BYTES, Options, Row, names, too_large
from ingest.validation.json_text import PARSE_ERRORS

_BLOCK_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_EMPTY_CONTEXT = Raw(b"{}")
_NULL = b"null"
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class LinesSource:
    """An NDJSON file. The members of its first record decide how every record is changed."""

    first_number = 1

    def __init__(self, file: DataFile, options: Options, schema: CompiledSchema) -> None:
        self.notes: list[str] = []
        self._file, self._options, self._schema = file, options, schema
        self._is_export = self._adds_context = False
        first = next((_members_of(row.text) for row in self._lines(0)), None)
        if first is not None:
            self._look_at(first)
        self._dropped = left_out(first or (), schema, options)
        self.are_lines = not (options.renamed or self._dropped or self._adds_context or self._is_export)

    def _look_at(self, first: dict[str, Raw]) -> None:
        renamed = {self._options.renamed.get(name, name) for name in first}
        if "timestamp" not in renamed:
            raise Refused(
                "The first record has no timestamp. Say with --timestamp-column which of its members is the time: "
                f"{names(first)}."
            )
        self._is_export = is_export(first)
        self._adds_context = "context" not in renamed
        self.notes += [IS_EXPORT] if self._is_export else []
        self.notes += [ADDS_CONTEXT] if self._adds_context else []

    def fraction(self) -> float:
        return self._file.fraction()

    def rows(self, begin: int) -> Iterator[Row]:
        rows = self._lines(begin)
        return rows if self.are_lines else map(self._as_sent, rows)

    def _lines(self, begin: int) -> Iterator[Row]:
        limit: int = settings.MAX_BODY_BYTES
        position = 0
        for lines, is_cut in _lines(self._file.open(), limit):
            if position + len(lines) > begin:
                for number, line in enumerate(lines, position):
                    text = line.strip(b" \t\r")
                    if text and number >= begin:
                        yield Row(number, text, too_large(limit) if is_cut else None)
            position += len(lines)

    def _as_sent(self, row: Row) -> Row:
        """Return the record that a client would send for a line. A line that is not an object does not change."""
        members = _members_of(row.text) if row.problem is None else None
        if members is None:
            return row
        sent: dict[str, Raw] = {}
        for name, value in members.items():
            if name in self._dropped or (self._is_export and bytes(value) == _NULL):
                continue
            field = self._options.renamed.get(name, name)
            if field in sent:
                error = f"Two members of the record are called “{field}” after --map"
                return Row(row.position, row.text, {"error": error, "code": "two_members"})
            sent[field] = _unpacked(value) if self._is_export and holds_json(field, self._schema) else value
        if self._adds_context:
            sent.setdefault("context", _EMPTY_CONTEXT)
        return Row(row.position, _encode(sent))


def _members_of(line: bytes) -> dict[str, Raw] | None:
    try:
        return _members(line)
    except PARSE_ERRORS:
        return None


def _unpacked(value: Raw) -> Raw:
    """Return a JSON value that an export holds as a text."""
    try:
        return Raw(_text(value).encode())
    except PARSE_ERRORS:
        return value


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[list[bytes], bool]]:
    """Yield lists of lines without their line breaks, each list with a bool.

    The bool is True if the list has one line, and only the beginning of this line was kept. This can happen to a line
    of more than `limit` bytes.
    """
    rest, is_cut, is_first = b"", False, True
    while block := file.read(_BLOCK_BYTES):
        if is_first:
            block, is_first = block.removeprefix(_BOM), False
        begin, *lines = block.split(b"\n")
        if not is_cut:
            rest += begin
        if lines:
            yield [rest], is_cut
            rest, is_cut = lines.pop(), False
            yield lines, False
        elif len(rest) > limit:
            rest, is_cut = rest[:SHOWN_BYTES], True
    if rest:
        yield [rest], is_cut
