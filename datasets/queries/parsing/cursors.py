"""Cursors. With a cursor, a client gets the next page of a query that has no groups and no aggregates.

A cursor has the ID of the last record of a page. The next page begins after this record, in the order of the query. So
no record is skipped or repeated, even if a compaction has moved the records to other files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from datasets.queries.parsing.problems import Problems
from datasets.queries.query import Query

_MAX_CHARACTERS = 500
# The members that must be the same on each page. Only the limit may change.
_SAME_ON_EACH_PAGE = ("range", "select", "where", "groupBy", "orderBy")
_ID = re.compile(r"[0-9][0-9-]{0,59}", re.ASCII).fullmatch
_EXPECTED = "the cursor of the answer to the same query"


class _Position(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a cursor holds. It has no signature: a client that changes it only gets other records of the dataset."""

    digest: str
    start: datetime
    end: datetime
    after: str
    version: int


def digest(body: Mapping[str, Any]) -> str:
    """Return a hash of a query without its limit and cursor, or an empty text if the query has no JSON text."""
    members = [body.get(name) for name in _SAME_ON_EACH_PAGE]
    try:
        text = json.dumps(members, sort_keys=True)
    except (ValueError, TypeError, RecursionError):  # `language.parse` then refuses the query
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write(query: Query, after: str, version: int) -> str:
    """Return the cursor for the page after the record `after`. `version` is the table's version that was read."""
    position = _Position(query.digest, query.start, query.end, after, version)
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read(given: Any, query: Query, problems: Problems) -> Query:
    """Return the query with the position and the range of its cursor. Add a problem if it is not the query's cursor."""
    if not query.is_plain:
        detail = "Only a query without groups and aggregates has pages. Leave out “cursor”."
        problems.add("cursor", "nothing", given, detail)
        return query
    position = _decoded(given)
    if position is None:
        problems.add("cursor", _EXPECTED, given, "This is not a cursor. Send the cursor of the last answer, unchanged.")
    elif position.digest != query.digest:
        detail = "The cursor belongs to another query. Send the same query again, or leave out “cursor”."
        problems.add("cursor", _EXPECTED, given, detail)
    else:
        return replace(query, start=position.start, end=position.end, after=position.after, version=position.version)
    return query


def _decoded(given: Any) -> _Position | None:
    if not isinstance(given, str) or len(given) > _MAX_CHARACTERS:
        return None
    try:
        text = base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True)
        position = msgspec.json.decode(text, type=_Position)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    is_valid = position.start.tzinfo and position.end.tzinfo and _ID(position.after) and position.version >= 0
    return position if is_valid else None
