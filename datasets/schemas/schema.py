"""A dataset's schema: its rules, and what a published version compiles to."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from django.core.exceptions import ValidationError
from msgspec import Raw, Struct

from datasets.schemas.date_times import Timestamp
from datasets.schemas.field_types import FIELD_TYPES

MAX_FIELDS = 200
# Of a schema as it is written, and of a sample. Both are refused by their size before they are read.
MAX_CHARACTERS = 1_000_000
# Part of every record: not declared.
ALWAYS_THERE = ("timestamp", "context")
RESERVED_NAMES = ("timestamp", "context", "id", "project_id", "dataset_id", "ingested_at", "__traceId")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}").fullmatch
# What PostgreSQL keeps as text: no NUL, and no half of a surrogate pair.
_TEXT = re.compile("[^\\x00\\ud800-\\udfff]*").fullmatch
_RESERVED = {name.lower() for name in RESERVED_NAMES}


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field of a schema version."""

    name: str
    type: str
    description: str = ""

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "type": self.type, "description": self.description}


def read_fields(text: str | bytes) -> list[Field]:
    """Fields from JSON; see `parse_fields`. Raises ValidationError."""
    return parse_fields(_read(text))


def read_schema_file(path: Path) -> list[Field]:
    """Fields from a file that holds `{"fields": {"amount": "number"}}`, and nothing else. Raises ValidationError."""
    try:
        given = _read(path.read_bytes())
    except FileNotFoundError as error:
        text = f"There is no file {path}: write the schema into one, and give its path after --schema."
        raise ValidationError(text) from error
    # Of a list, an empty one too, somebody meant something else: records, as a rule.
    written_out = isinstance(given, Mapping) and isinstance(given.get("fields"), Mapping)
    return parse_fields(given if written_out else None)


def _read(text: str | bytes) -> Any:
    check_size(text)
    try:
        return json.loads(text, object_pairs_hook=_each_name_once)
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"This is not JSON: {error}.") from error


def check_size(text: str | bytes) -> None:
    """Raise ValidationError if a schema or a sample is too long to be one."""
    if len(text) > MAX_CHARACTERS:
        raise ValidationError(f"This has {len(text):,} characters: {MAX_CHARACTERS:,} is the limit.")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate names: json.loads would keep only the last of them."""
    read = dict(pairs)
    if len(read) < len(pairs):
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise ValidationError([f"“{shown(name)}” stands there twice." for name in twice[:MAX_FIELDS]])
    return read


def parse_fields(given: Any) -> list[Field]:
    """Fields from what an admin writes, checked: `{"fields": {"amount": "number"}}`, or a list of such rows
    (`{"name": "amount", "type": "number", "description": "in EUR"}`).

    Raises ValidationError, which names every field that is wrong and why.
    """
    declared = given.get("fields") if isinstance(given, Mapping) else given
    if isinstance(declared, Mapping):
        declared = [{"name": name, "type": type_name} for name, type_name in declared.items()]
    if not isinstance(declared, Sequence) or isinstance(declared, str):
        raise ValidationError('A schema is an object like {"fields": {"amount": "number"}}.')
    if len(declared) > MAX_FIELDS:
        raise ValidationError(_too_many(len(declared)))
    problems, fields = [], []
    for row in declared:
        if isinstance(row, Mapping) and isinstance(row.get("name"), str) and isinstance(row.get("type"), str):
            fields.append(Field(row["name"], row["type"], str(row.get("description") or "")))
        else:
            problems.append(f"{shown(repr(row))} is not a field: it needs a name and a type.")
    problems += [text for _, text in field_problems(fields)]
    if problems:
        raise ValidationError(problems)
    return fields


def field_problems(fields: Sequence[Field]) -> Iterator[tuple[int | None, str]]:
    """Yield what the rules have against the fields: the index of the field, None for all of them, and the reason."""
    if len(fields) > MAX_FIELDS:
        yield None, _too_many(len(fields))
        return
    seen: dict[str, str] = {}
    for index, field in enumerate(fields):
        folded = field.name.lower()
        if not _NAME(field.name):
            yield (
                index,
                f"“{shown(field.name)}” cannot name a field: "
                "letters, digits and _, not starting with a digit, at most 63.",
            )
        elif folded in _RESERVED:
            yield index, f"“{field.name}” is reserved: every record has it already."
        elif folded in seen:
            yield index, f"“{field.name}” and “{seen[folded]}” are the same column: names differ by more than case."
        if field.type not in FIELD_TYPES:
            yield (
                index,
                f"“{shown(field.name)}”: there is no type “{shown(field.type)}”. Types: {', '.join(FIELD_TYPES)}.",
            )
        if not _TEXT(field.description):
            yield index, f"“{shown(field.name)}”: its description holds characters that cannot be kept."
        seen.setdefault(folded, field.name)


def _too_many(count: int) -> str:
    return f"{count} fields are too many: {MAX_FIELDS} is the limit."


def shown(name: str) -> str:
    """Return a name as a page can show it: half of a surrogate pair cannot be sent, and nobody reads 10,000 letters."""
    return name[:100].encode(errors="backslashreplace").decode()


def check_successor(earlier: Iterable[Sequence[Field]], fields: Sequence[Field]) -> None:
    """Refuse a change that the dataset's table cannot follow: a column keeps its type and spelling for good.

    `earlier` are all versions published so far: a removed field's column stays in the table.
    Raises ValidationError with the reason and the way out.
    """
    problems = [text for _, text in successor_problems(earlier, fields)]
    if problems:
        raise ValidationError(problems)


def successor_problems(earlier: Iterable[Sequence[Field]], fields: Sequence[Field]) -> Iterator[tuple[int, str]]:
    """What the table has against the fields: the index of the field, and the reason with the way out."""
    columns = {field.name.lower(): field for version in earlier for field in version}
    for index, field in enumerate(fields):
        column = columns.get(field.name.lower())
        if column is None:
            continue
        if column.type != field.type:
            yield (
                index,
                f"“{field.name}” is stored as {column.type} and cannot become {field.type}: "
                f"add a field with a new name instead.",
            )
        elif column.name != field.name:
            yield index, f"“{field.name}”: the table already has the column “{column.name}”; use that spelling."


class _AnyObject(Struct, gc=False):
    """Matches any JSON object and keeps nothing of it: validation wants to know that `context` is one, no more."""


class CompiledSchema:
    """A published version, ready to validate requests and to decode queued records.

    Decoders are made on first use: web processes validate, workers decode.
    """

    def __init__(self, version_id: int, fields: Sequence[Field]) -> None:
        self.version_id = version_id
        self.fields = tuple(fields)
        self.types = {field.name: field.type for field in fields}

    def knows(self, name: str) -> bool:
        """Return whether a record may have a field of this name."""
        return name in self.types or name in ALWAYS_THERE

    def columns(self) -> dict[str, pa.DataType]:
        """The columns its fields are stored in."""
        return {field.name: FIELD_TYPES[field.type].arrow for field in self.fields}

    def _record(self, context: Any, timestamp: Any, types: list[Any]) -> type[Struct]:
        # Attributes are f0, f1, ...: a field may be called anything, `def` or `__init__` included.
        names = {f"f{n}": field.name for n, field in enumerate(self.fields)}
        return msgspec.defstruct(
            "Record",
            [("timestamp", timestamp), ("context", context), *zip(names, types, strict=True)],
            rename=names,
            forbid_unknown_fields=True,
            gc=False,
        )

    @cached_property
    def one(self) -> "msgspec.json.Decoder[Any]":
        """Validates a single record."""
        return msgspec.json.Decoder(self._validated)

    @cached_property
    def many(self) -> "msgspec.json.Decoder[list[Any]]":
        """Validates an array of records."""
        return msgspec.json.Decoder(list[self._validated])  # type: ignore[name-defined]

    @cached_property
    def queued(self) -> "msgspec.json.Decoder[list[Any]]":
        """Decodes an array of queued records on the way to columns: `context` as its text, time stamps as theirs."""
        types = [FIELD_TYPES[field.type] for field in self.fields]
        record = self._record(Raw, str, [each.read_as or each.decodes_to for each in types])
        return msgspec.json.Decoder(list[record])  # type: ignore[valid-type]

    @cached_property
    def date_times(self) -> "msgspec.json.Decoder[list[Any]]":
        """Decodes only the timestamps of an array of records, as text."""
        names = {f"f{n}": field.name for n, field in enumerate(self.fields) if field.type == "timestamp"}
        fields = [("timestamp", str), *((attribute, str) for attribute in names)]
        return msgspec.json.Decoder(list[msgspec.defstruct("DateTimes", fields, rename=names, gc=False)])  # type: ignore[misc]

    @cached_property
    def _validated(self) -> type[Struct]:
        return self._record(_AnyObject, Timestamp, [FIELD_TYPES[field.type].decodes_to for field in self.fields])


@lru_cache(maxsize=20_000)
def compile_schema(version_id: int, fields: tuple[Field, ...]) -> CompiledSchema:
    """Return the compiled schema of a version. A process compiles each version once, for all keys and drains."""
    return CompiledSchema(version_id, fields)
