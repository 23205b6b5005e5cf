"""The list of records, and the page of one record. Long values are cut, so that a page stays small."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from config.common.text import visible_lines
from config.lazy import pyarrow as pa
from datasets.models import Dataset
from datasets.schemas.changes import in_words
from datasets.tables import exports, records
from datasets.tables.records import Selection

ROWS = 50
MAX_CELL = 200  # the list shows at most this number of characters of a value
_MAX_VALUE = 10_000  # a record's own page shows at most this number of characters of a value
# The columns that are not declared fields. The list shows the first column before the fields, the others after them.
_BASE = ("timestamp", "context", "__traceId", "__schemaVersion", "ingested_at", "id")
_HIDDEN = ("project_id", "dataset_id")


def rows(dataset: Dataset, selection: Selection, before: str) -> dict[str, Any]:
    """Return the columns and the latest rows of a selection. If there are older rows, `older` is the last row's ID."""
    # Read one extra character to see which values are cut, and one extra row to see if there is another page.
    table = records.latest(dataset, ROWS + 1, selection, before=before, max_characters=MAX_CELL + 1)
    if table is None:
        return {"columns": [], "rows": [], "older": ""}
    columns, found, describe = _columns(table), _dicts(table), describer(dataset)
    shown = [{"id": row["id"], "cells": [cell(row[name], MAX_CELL) for name in columns]} for row in found[:ROWS]]
    return {
        "columns": [(name, describe(name)) for name in columns],
        "rows": shown,
        "older": found[ROWS - 1]["id"] if len(found) > ROWS else "",
    }


def one(dataset: Dataset, record_id: str) -> list[tuple[str, str, dict[str, Any]]] | None:
    """Return the name, description and value of each column of a record, or None if there is no such record."""
    table = records.latest(dataset, 1, Selection(record_id=record_id), max_characters=_MAX_VALUE + 1)
    if table is None or table["id"].to_pylist() != [record_id]:
        return None
    (row,), describe = _dicts(table), describer(dataset)
    return [(name, describe(name), cell(row[name], _MAX_VALUE)) for name in _columns(table)]


def describer(dataset: Dataset) -> Callable[[str], str]:
    """Return a function that describes a column by its name, according to the latest schema version."""
    version = dataset.latest_version()
    words = {field.name: in_words(field) for field in version.field_list()} if version else {}
    return lambda name: words.get(name, "" if name in _BASE else "not in the current schema version")


def _dicts(table: pa.Table) -> list[dict[str, Any]]:
    return [row for batch in table.to_batches() for row in exports.rows(batch)]


def _columns(table: pa.Table) -> list[str]:
    names = table.schema.names
    declared = [name for name in names if name not in (*_BASE, *_HIDDEN)]
    base = [name for name in _BASE if name in names]  # an older table has no `__schemaVersion`
    return [*base[:1], *declared, *base[1:]]


def cell(value: Any, longest: int) -> dict[str, Any]:
    """Return a value for a table: its text, and whether the text is cut.

    Characters that reverse the direction of a text become escapes. Otherwise the page could show another value.
    """
    if isinstance(value, str):
        return {"text": visible_lines(value[:longest]), "cut": len(value) > longest}
    # Show booleans as JSON does: true, not True.
    return {"text": json.dumps(value) if isinstance(value, bool) else value, "cut": False}
