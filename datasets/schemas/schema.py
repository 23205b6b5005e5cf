"""A dataset's schema: how it is read, its rules, and the compiled schema that decodes records."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from msgspec import Raw, Struct

from config.lazy import pyarrow as pa
from datasets.schemas.date_times import Timestamp
from datasets.schemas.field_types import FIELD_TYPES

MAX_FIELDS = 200
# The maximum length of a schema's text or a sample. A longer one is refused before it is parsed.
MAX_CHARACTERS = 1_000_000
# Every record has these, so they are not declared.
ALWAYS_THERE = ("timestamp", "context")
RESERVED_NAMES = (
    *("timestamp", "context", "id", "project_id", "dataset_id", "ingested_at"),
    *("__traceId", "__schemaVersion"),
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}").fullmatch
# PostgreSQL cannot store NUL or a lone surrogate in a text.
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


def read_fields(text: str | bytes, earlier: Collection[str] = ()) -> list[Field]:
    """Return the fields of a schema in JSON: see `parse_fields`. Raise ValidationError if it is not one."""
    return parse_fields(_read(text), earlier)


def read_schema_file(path: Path) -> list[Field]:
    """Return the fields of a file that holds a schema like `{"fields": {"amount": "number"}}`.

    Raises:
        ValidationError: The file does not exist, or holds anything else.
    """
    try:
        given = _read(path.read_bytes())
    except FileNotFoundError as error:
        text = f"There is no file {path}. Write the schema to a file, and pass its path with --schema."
        raise ValidationError(text) from error
    # Refuse lists, even empty ones: the author probably passed sample records instead of a schema.
    written_out = isinstance(given, Mapping) and isinstance(given.get("fields"), Mapping)
    return parse_fields(given if written_out else None)


def _read(text: str | bytes) -> Any:
    """Return parsed JSON. Raise ValidationError if it is too long, invalid, or has duplicate names."""
    check_size(text)
    try:
        return json.loads(text, object_pairs_hook=_each_name_once)
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"This is not JSON: {error}.") from error


def check_size(text: str | bytes) -> None:
    """Raise ValidationError if a schema or a sample is too long to be one."""
    if len(text) > MAX_CHARACTERS:
        raise ValidationError(f"This text has {len(text):,} characters. The limit is {MAX_CHARACTERS:,}.")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of unique names. Raise ValidationError for duplicates: json.loads would keep only the last."""
    read = dict(pairs)
    if len(read) < len(pairs):
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise ValidationError([f"“{shown(name)}” is declared twice." for name in twice[:MAX_FIELDS]])
    return read


def parse_fields(given: Any, earlier: Collection[str] = ()) -> list[Field]:
    """Return the fields that an admin has declared, after checking them.

    Args:
        given: An object like `{"fields": {"amount": "number"}}`, or a list of rows like `{"name": "amount", "type":
            "number", "description": "in EUR"}`.
        earlier: The names of fields in the dataset's earlier versions. They stay allowed if they are reserved since.

    Raises:
        ValidationError: It names every wrong field and the reason.
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
    problems += [text for _, text in field_problems(fields, earlier)]
    if problems:
        raise ValidationError(problems)
    return fields


def field_problems(fields: Sequence[Field], earlier: Collection[str] = ()) -> Iterator[tuple[int | None, str]]:
    """Yield each violation of the rules: the index of the field, None for all fields together, and the reason.

    A name that is reserved is allowed if it is among the names of the dataset's `earlier` fields.
    """
    if len(fields) > MAX_FIELDS:
        yield None, _too_many(len(fields))
        return
    seen: dict[str, str] = {}
    for index, field in enumerate(fields):
        folded = field.name.lower()
        if not _NAME(field.name):
            yield (
                index,
                f"“{shown(field.name)}” cannot be a field name. "
                "Use at most 63 letters, digits and _, and do not start with a digit.",
            )
        elif folded in _RESERVED and field.name not in earlier:
            yield index, f"“{field.name}” is reserved: every record has it already."
        elif folded in seen:
            yield index, f"“{field.name}” and “{seen[folded]}” differ only in case, so they would share a column."
        if field.type not in FIELD_TYPES:
            yield (
                index,
                f"“{shown(field.name)}”: there is no type “{shown(field.type)}”. Types: {', '.join(FIELD_TYPES)}.",
            )
        if not _TEXT(field.description):
            yield index, f"“{shown(field.name)}”: the description has characters that cannot be stored."
        seen.setdefault(folded, field.name)


def _too_many(count: int) -> str:
    return f"The schema has {count} fields. The limit is {MAX_FIELDS}."


def shown(name: str) -> str:
    """Return a name for a page: at most 100 characters, with lone surrogates escaped, which UTF-8 cannot encode."""
    return name[:100].encode(errors="backslashreplace").decode()


def check_successor(earlier: Iterable[Sequence[Field]], fields: Sequence[Field]) -> None:
    """Refuse a change that the dataset's table cannot follow: a column keeps its type and spelling forever.

    Args:
        earlier: All published versions, because the column of a removed field stays in the table.
        fields: The next version.

    Raises:
        ValidationError: It says why, and what to do instead.
    """
    problems = [text for _, text in successor_problems(earlier, fields)]
    if problems:
        raise ValidationError(problems)


def successor_problems(earlier: Iterable[Sequence[Field]], fields: Sequence[Field]) -> Iterator[tuple[int, str]]:
    """Yield each field that does not fit the table: its index, the reason, and what to do instead."""
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
    """Accepts any JSON object and keeps nothing of it. Validation only checks that `context` is an object."""


class CompiledSchema:
    """The decoders of a published version, which validate requests and read queued records.

    Each decoder is built on first use, because web processes validate and workers read.
    """

    def __init__(self, version_id: int, fields: Sequence[Field]) -> None:
        self.version_id = version_id
        self.fields = tuple(fields)
        self.types = {field.name: field.type for field in fields}

    def knows(self, name: str) -> bool:
        """Return whether a record may have a field of this name."""
        return name in self.types or name in ALWAYS_THERE

    def columns(self) -> "dict[str, pa.DataType]":
        """Return the Arrow types of the fields' columns by name."""
        return {field.name: FIELD_TYPES[field.type].arrow() for field in self.fields}

    def _record(self, context: Any, timestamp: Any, types: list[Any]) -> type[Struct]:
        """Return a struct for a record, with these types for `context`, `timestamp` and the declared fields."""
        # Attributes are called f0, f1, ... because a field may have any name, even `def` or `__init__`.
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
        """The decoder that validates a single record."""
        return msgspec.json.Decoder(self._validated)

    @cached_property
    def many(self) -> "msgspec.json.Decoder[list[Any]]":
        """The decoder that validates an array of records."""
        return msgspec.json.Decoder(list[self._validated])  # type: ignore[name-defined]

    @cached_property
    def queued(self) -> "msgspec.json.Decoder[list[Any]]":
        """The decoder that reads an array of queued records for columns. `context` and timestamps stay texts."""
        types = [FIELD_TYPES[field.type] for field in self.fields]
        record = self._record(Raw, str, [each.read_as or each.decodes_to for each in types])
        return msgspec.json.Decoder(list[record])  # type: ignore[valid-type]

    @cached_property
    def date_times(self) -> "msgspec.json.Decoder[list[Any]]":
        """The decoder that reads only the timestamps of an array of records, as texts."""
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
