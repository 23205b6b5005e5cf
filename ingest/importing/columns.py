"""The columns of a CSV or Parquet file, and the fields that they become."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from config.common.errors import Refused
from datasets.schemas.declarations import RESERVED_NAMES
from datasets.schemas.fields import ALWAYS_THERE
from datasets.schemas.schema import CompiledSchema
from ingest.importing.rows import Options, names

# Every export has these columns, which are not members of a record. Newer exports also have __schemaVersion.
_IN_EXPORTS = frozenset(("id", "project_id", "dataset_id", "ingested_at", "__traceId"))
IS_EXPORT = (
    "The file is an export. The import leaves out id, ingested_at and the other columns that the service sets itself."
)
ADDS_CONTEXT = "The file has no context: each record gets an empty one."


def is_export(columns: Collection[str]) -> bool:
    """Return whether a file with these columns is an export of a dataset's records."""
    return set(columns) >= _IN_EXPORTS


def left_out(columns: Collection[str], schema: CompiledSchema, options: Options) -> set[str]:
    """Return the columns that are not imported.

    An old dataset may have a field whose name is now one of RESERVED_NAMES. Then the column with this name is imported.
    """
    ours = set(RESERVED_NAMES) - set(ALWAYS_THERE) - set(options.renamed) - set(schema.types)
    return set(options.dropped) | (ours if is_export(columns) else set())


class Columns(Struct, frozen=True):
    """The field of each column, and the type of the struct that the import encodes for each row."""

    fields: list[str | None]  # None: the column is left out
    is_export: bool
    adds_context: bool
    record: type[Struct]

    def used(self) -> list[tuple[int, str]]:
        """Return the index and the field of each column that is not left out."""
        return [(index, field) for index, field in enumerate(self.fields) if field is not None]


def assign(columns: Sequence[str], schema: CompiledSchema, options: Options) -> Columns:
    """Return the field of each column.

    Raise Refused if the columns do not fit the schema or the options, for example if a required field has no column.
    """
    _check_names(columns, options)
    export = is_export(columns)
    dropped = left_out(columns, schema, options)
    fields = [None if name in dropped else options.renamed.get(name, name) for name in columns]
    known = [field for field in fields if field is not None]
    twice = [field for field, count in Counter(known).items() if count > 1]
    if twice:
        raise Refused(f"Several columns become {names(twice)}. Leave out all but one with --drop.")
    if "timestamp" not in known:
        raise Refused(
            "The file has no column “timestamp”. Say with --timestamp-column which column is the time of a record: "
            f"{names(columns)}."
        )
    unknown = [] if export else [field for field in known if not schema.knows(field)]
    if unknown:
        raise Refused(
            f"The schema has no field {names(unknown)}. Say with --map COLUMN=FIELD which field a column is, or leave "
            f"it out with --drop COLUMN. Fields: {names(schema.types)}."
        )
    missing = [name for name, kind in schema.types.items() if name not in known and not kind.optional]
    if missing:
        raise Refused(
            f"The file has no column for the field {names(missing)}. Say with --map COLUMN=FIELD which column it is: "
            f"{names(columns)}."
        )
    return Columns(fields, export, "context" not in known, _record(known))


def _check_names(columns: Sequence[str], options: Options) -> None:
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise Refused(f"The file has several columns {names(twice)}. Rename all but one in the file.")
    missing = [name for name in (*options.renamed, *options.dropped) if name not in columns]
    if missing:
        raise Refused(f"The file has no column {names(missing)}. Columns: {names(columns)}.")


def _record(fields: Sequence[str]) -> type[Struct]:
    """Return a struct that is encoded as a record. Values that are not set are left out."""
    members: dict[str, tuple[str, Any]] = {f"f{n}": (field, UNSET) for n, field in enumerate(fields)}
    if "context" not in fields:
        members["context"] = ("context", Raw(b"{}"))
    return msgspec.defstruct(
        "Row",
        [(attribute, Any, default) for attribute, (_, default) in members.items()],
        rename={attribute: field for attribute, (field, _) in members.items()},
        gc=False,
    )


def holds_json(field: str, schema: CompiledSchema) -> bool:
    """Return whether an export writes the field's value as a text that contains JSON."""
    return field == "context" or (field in schema.types and schema.types[field].name == "json")


def holds_number(field: str, schema: CompiledSchema) -> bool:
    """Return whether the field is an IEEE double, which an export writes as a number."""
    return field in schema.types and schema.types[field].name == "number"


def is_literal(field: str, schema: CompiledSchema) -> bool:
    """Return whether a field's value is JSON in a CSV cell, such as 12.5 or true. Other cells are texts."""
    return field == "context" or (field in schema.types and schema.types[field].is_literal)
