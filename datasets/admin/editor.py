"""The schema editor's questions to the server: read a schema or a sample, and say what a change means."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import BadRequest, ValidationError

from datasets.schemas.changes import FieldProblem, differences, problems
from datasets.schemas.declarations import MAX_FIELDS, read_row, read_rows
from datasets.schemas.fields import Field
from datasets.schemas.samples import suggested_names

EMPTY = 'The schema is empty. To remove all fields, write {"fields": {}}.'
_LENGTHS = ("min_length", "max_length")


@dataclass(slots=True)
class Written:
    """A schema as the editor sends it, in JSON.

    Attributes:
        rows: What the editor's rows show, or None if they cannot show this schema.
        fields: The fields. A row with a problem counts as a field that has only a name and a type.
        problems: Why rows declare no fields, or why the text is no schema.
    """

    rows: list[dict[str, Any]] | None = None
    fields: list[Field] = field(default_factory=list)
    problems: list[FieldProblem] = field(default_factory=list)


def read(text: str) -> Written:
    """Return a schema in JSON. An empty text is a schema without fields."""
    try:
        rows = read_rows(text) if text.strip() else []
    except ValidationError as error:
        return Written(problems=[FieldProblem(None, each) for each in error.messages])
    found = [read_row(row) for row in rows]
    unread = [FieldProblem(index, each) for index, each in enumerate(found) if isinstance(each, str)]
    shown = [_shown(row) for row in rows[: MAX_FIELDS + 1]]
    if None in shown:  # no row of the editor belongs to these problems
        return Written(problems=[FieldProblem(None, each.text) for each in unread])
    fields = [
        each if isinstance(each, Field) else Field(row["name"], row["type"])
        for each, row in zip(found, rows, strict=True)
    ]
    return Written([each for each in shown if each] if len(rows) <= MAX_FIELDS else None, fields, unread)


def _shown(row: Any) -> dict[str, Any] | None:
    """Return what the editor shows for a row, or None if it cannot show it.

    The editor has inputs for lengths, into which a user can also type what is not a length.
    """
    if not isinstance(row, Mapping):
        return None
    lengths = {name: row[name] for name in _LENGTHS if isinstance(row.get(name), int | float | str)}
    found = read_row({name: value for name, value in row.items() if name not in lengths})
    return {**found.as_json(), **lengths} if isinstance(found, Field) else None


def preview(text: str, earlier: Sequence[Sequence[Field]], *, with_grace: bool) -> dict[str, Any]:
    """Return what publishing a schema would change, and everything that is wrong with it."""
    is_emptied = bool(earlier) and not text.strip()
    written = Written(problems=[FieldProblem(None, EMPTY)]) if is_emptied else read(text)
    fields = written.fields
    found = written.problems or problems(earlier, fields, with_grace=with_grace)
    is_readable = written.rows is not None
    before = earlier[-1] if earlier else ()
    return {
        "rows": written.rows,
        "fields": fields,
        "is_readable": is_readable,
        "changes": list(differences(before, fields, with_grace=with_grace)) if is_readable else [],
        "next": len(earlier) + 1,
        "with_grace": with_grace,
        "problems": found,
        "general_problems": [each for each in found if each.index is None],
        "suggestions": _suggestions(fields, earlier) if is_readable else {},
    }


def _suggestions(fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> dict[int, str]:
    """Return a better name for each field whose name is not allowed, by the index of the field."""
    return suggested_names([field.name for field in fields], {field.name for version in earlier for field in version})


def known_fields(text: str) -> dict[str, bool]:
    """Return, by name, whether a field that the editor has is optional. Raises BadRequest if the text is wrong."""
    try:
        known = json.loads(text or "{}")
    except (ValueError, RecursionError):
        known = None
    if not isinstance(known, dict):
        raise BadRequest("The names of the known fields are not a JSON object.")
    return {name: bool(is_optional) for name, is_optional in known.items()}
