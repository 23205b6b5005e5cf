"""Read the schema that an admin declares, and check it against the rules of the schema language."""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError

from datasets.schemas.constraints import MAX_MATCHED_CHARACTERS
from datasets.schemas.derived_types import type_problem
from datasets.schemas.fields import Field, is_storable, shown
from datasets.strict_json import NotJson, exact_float, why_not_json

MAX_FIELDS = 200
MAX_NAME_CHARACTERS = 63
# The maximum length of the text of a schema or a sample. A longer text is refused before it is parsed.
MAX_CHARACTERS = 1_000_000
RESERVED_NAMES = (
    *("timestamp", "context", "id", "project_id", "dataset_id", "ingested_at"),
    *("__traceId", "__schemaVersion"),
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}").fullmatch
_RESERVED = {name.lower() for name in RESERVED_NAMES}


def read_fields(text: str | bytes, earlier: Collection[str] = ()) -> list[Field]:
    """Return the fields of a schema in JSON: see `parse_fields`. Raise ValidationError if the text is no schema."""
    return parse_fields(_read(text), earlier)


def read_rows(text: str | bytes) -> list[Any]:
    """Return what a schema in JSON declares, as a row for each field. `read_row` reads a row.

    Raises:
        ValidationError: The text is no schema.
    """
    return _rows(_read(text))


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
        return json.loads(text, object_pairs_hook=_each_name_once, parse_float=exact_float)
    except NotJson as error:
        raise ValidationError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"This is not JSON: {why_not_json(error)}") from error


def check_size(text: str | bytes) -> None:
    """Raise ValidationError if the text of a schema or a sample is too long."""
    if len(text) > MAX_CHARACTERS:
        raise ValidationError(f"This text has {len(text):,} characters. The limit is {MAX_CHARACTERS:,}.")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict. Raise ValidationError for a duplicate name: json.loads would keep only the last."""
    read = dict(pairs)
    if len(read) < len(pairs):
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise ValidationError([f"“{shown(name)}” is declared twice." for name in twice[:MAX_FIELDS]])
    return read


def parse_fields(given: Any, earlier: Collection[str] = ()) -> list[Field]:
    """Return the fields that an admin has declared, after checking them.

    Args:
        given: An object like `{"fields": {"amount": "number", "note": {"type": "string", "optional": true}}}`, or a
            list of rows like `{"name": "amount", "type": "number", "description": "in EUR"}`.
        earlier: The names of fields in the dataset's earlier versions. They are allowed, even if they are reserved now.

    Raises:
        ValidationError: The schema is wrong. The error has a message for each problem. The message names the field if
            the problem is about one field.
    """
    declared = _rows(given)
    if len(declared) > MAX_FIELDS:
        raise ValidationError(_too_many(len(declared)))
    read = [read_row(row) for row in declared]
    fields = [each for each in read if isinstance(each, Field)]
    problems = [each for each in read if isinstance(each, str)]
    problems += [text for _, text in field_problems(fields, earlier)]
    if problems:
        raise ValidationError(problems)
    return fields


def _rows(given: Any) -> list[Any]:
    """Return the declared fields as a list of rows. Raise ValidationError if the value is no schema."""
    declared = given.get("fields") if isinstance(given, Mapping) else given
    if isinstance(declared, Mapping):
        if twice := list(_named_twice(declared)):
            raise ValidationError(twice)
        return [_row(name, said) for name, said in declared.items()]
    if not isinstance(declared, Sequence) or isinstance(declared, str):
        raise ValidationError('A schema is an object like {"fields": {"amount": "number"}}.')
    return list(declared)


def _row(name: str, said: Any) -> dict[str, Any]:
    """Return one member of an object of fields as a row of a list."""
    return {**said, "name": name} if isinstance(said, Mapping) else {"name": name, "type": said}


def _named_twice(declared: Mapping[str, Any]) -> Iterator[str]:
    """Yield a problem for each member of an object of fields that has a name inside, too."""
    for name, said in declared.items():
        if isinstance(said, Mapping) and "name" in said:
            yield f"“{shown(name)}”: remove “name”. In an object of fields, the name stands before the colon."


def read_row(row: Any) -> Field | str:
    """Return the field that a row declares, or why it declares none. `field_problems` checks the rules of fields."""
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str) or not isinstance(row.get("type"), str):
        return f"{_named(row)} is not a field: it needs a name and a type, both texts."
    said = {member: value for member, value in row.items() if value is not None}
    for member, value in said.items():
        if member not in _MEMBERS:
            return f"“{shown(row['name'])}”: there is no “{shown(str(member))}”. A field has: {', '.join(_MEMBERS)}."
        is_right, expected = _MEMBERS[member]
        if not is_right(value):
            return f"“{shown(row['name'])}”: “{member}” must be {expected}."
    type_name = said["type"].replace(", ", ",")
    if type_name.endswith("?"):
        said["optional"], type_name = True, type_name[:-1]
    if "pattern" in said:
        said.setdefault("max_length", MAX_MATCHED_CHARACTERS)
    return Field.from_json({**said, "type": type_name})


def _named(row: Any) -> str:
    """Return the words by which an error names a row that declares no field."""
    if isinstance(row, Mapping):
        name = row.get("name")
        return f"“{shown(name)}”" if isinstance(name, str) else "An object without a name"
    if isinstance(row, list):
        return "An array"
    return shown(json.dumps(row, ensure_ascii=False))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_limit(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


# The members that a row may have. For each, a function that checks its value, and the words that an error uses for it.
_MEMBERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "a text"),
    "type": (_is_text, "a text"),
    "description": (_is_text, "a text"),
    "unit": (_is_text, "a text"),
    "optional": (lambda value: isinstance(value, bool), "true or false"),
    "values": (_are_texts, "a list of texts"),
    "minimum": (_is_limit, "a number or a text"),
    "maximum": (_is_limit, "a number or a text"),
    "min_length": (_is_length, "a whole number from 0"),
    "max_length": (_is_length, "a whole number from 0"),
    "pattern": (_is_text, "a text"),
}


def field_problems(fields: Sequence[Field], earlier: Collection[str] = ()) -> Iterator[tuple[int | None, str]]:
    """Yield each violation of the rules: the index of the field (None for all fields together), and the reason.

    A reserved name is allowed if it is one of the names of the dataset's `earlier` fields.
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
        elif seen.get(folded) == field.name:
            yield index, f"“{field.name}” is declared twice."
        elif folded in seen:
            yield index, f"“{field.name}” and “{seen[folded]}” differ only in case, so they would share a column."
        problem = type_problem(field)
        if problem:
            yield index, f"“{shown(field.name)}”: {problem}"
        for what in ("description", "unit"):
            if not is_storable(getattr(field, what)):
                yield index, f"“{shown(field.name)}”: the {what} has characters that cannot be stored."
        seen.setdefault(folded, field.name)


def _too_many(count: int) -> str:
    return f"The schema has {count} fields. The limit is {MAX_FIELDS}."
