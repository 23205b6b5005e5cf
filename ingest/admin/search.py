"""The search on the records page, and the rows that it shows. Long values are cut, so that a page stays small."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from django.utils import timezone

from config.common.errors import ApiError
from config.lazy import pyarrow as pa
from datasets.models import Dataset
from datasets.schemas.changes import in_words
from datasets.tables import exports, records
from datasets.tables.records import Selection
from ingest.api import receipts
from ingest.api.lookup import look_up
from ingest.storing.conversion import row_id_prefix

ROWS = 50
_MAX_CELL = 200  # characters of a value in the list
_MAX_VALUE = 10_000  # characters of a value on a record's own page
# Columns beside the declared fields: the first one is shown before them, the others after them.
_BASE = ("timestamp", "context", "__traceId", "__schemaVersion", "ingested_at", "id")
_HIDDEN = ("project_id", "dataset_id")
_INPUTS = ("since", "until", "trace", "record", "receipt")


@dataclass(slots=True)
class Search:
    """The search that a URL asks for."""

    selection: Selection = field(default_factory=Selection)
    problems: list[str] = field(default_factory=list)  # with a problem, nothing is shown or exported
    receipt: dict[str, Any] | None = None  # what the API says about the given receipt


def search(request: HttpRequest, dataset: Dataset) -> Search:
    """Read the search from a URL, with every problem in it."""
    given, found = request.GET, Search()
    request_part = _request_of(dataset, given.get("receipt", "").strip(), found)
    found.selection = Selection(
        since=_moment(given, "since", found.problems),
        until=_moment(given, "until", found.problems),
        trace_id=given.get("trace", "").strip(),
        record_id=given.get("record", "").strip(),
        request=request_part,
    )
    return found


def query(given: QueryDict) -> str:
    """Return the filled inputs of the search form as a query string. It is empty if nothing is searched for."""
    return urlencode([(name, given[name]) for name in _INPUTS if given.get(name, "").strip()])


def _moment(given: QueryDict, name: str, problems: list[str]) -> datetime | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problems.append(f"“{text[:100]}” is not a time. Write it like 2026-06-10T10:58.")
        return None
    return moment.replace(tzinfo=UTC) if timezone.is_naive(moment) else moment


def _request_of(dataset: Dataset, text: str, found: Search) -> str:
    """Return the common prefix of the IDs of a receipt's records. `text` is a receipt, or a Location header."""
    if not text:
        return ""
    try:
        receipt = receipts.read(dataset.pk, text.rstrip("/").rpartition("/")[2])
    except ApiError:
        found.problems.append(
            "This is not a receipt of this dataset. A receipt is the last part of the Location header of an answer."
        )
        return ""
    try:
        found.receipt = look_up(receipt)
    except ApiError as refusal:
        found.receipt = {"status": refusal.error}
    milliseconds, _, sequence = receipt.stream_id.partition("-")
    return row_id_prefix(milliseconds, sequence)


def rows(dataset: Dataset, selection: Selection, before: str) -> dict[str, Any]:
    """Return the columns and the latest rows of a selection, and the ID after which the next page begins."""
    # Read one extra character to see which values are cut, and one extra row to see if there is another page.
    table = records.latest(dataset, ROWS + 1, selection, before=before, max_characters=_MAX_CELL + 1)
    if table is None:
        return {"columns": [], "rows": [], "older": ""}
    columns, found, said = _columns(table), _dicts(table), _said(dataset)
    shown = [{"id": row["id"], "cells": [_cell(row[name], _MAX_CELL) for name in columns]} for row in found[:ROWS]]
    return {
        "columns": [(name, said(name)) for name in columns],
        "rows": shown,
        "older": found[ROWS - 1]["id"] if len(found) > ROWS else "",
    }


def one(dataset: Dataset, record_id: str) -> list[tuple[str, str, dict[str, Any]]] | None:
    """Return a record's columns for its own page: name, words, value. Return None if there is no such record."""
    table = records.latest(dataset, 1, Selection(record_id=record_id), max_characters=_MAX_VALUE + 1)
    if table is None or table["id"].to_pylist() != [record_id]:
        return None
    (row,), said = _dicts(table), _said(dataset)
    return [(name, said(name), _cell(row[name], _MAX_VALUE)) for name in _columns(table)]


def _said(dataset: Dataset) -> Callable[[str], str]:
    """Return a function that says in words what a column holds, by the current schema version."""
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


def _cell(value: Any, longest: int) -> dict[str, Any]:
    if isinstance(value, str) and len(value) > longest:
        return {"text": value[:longest], "cut": True}
    # Show booleans as JSON does: true, not True.
    return {"text": json.dumps(value) if isinstance(value, bool) else value, "cut": False}
