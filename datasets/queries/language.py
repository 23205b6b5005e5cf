"""The query language: check a query in JSON, and return it as a `Query`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from config.common import clock
from datasets.queries.columns import queryable
from datasets.queries.parsing import cursors
from datasets.queries.parsing.conditions import Conditions, read_range
from datasets.queries.parsing.outputs import Outputs
from datasets.queries.parsing.problems import MISSING, Problems
from datasets.queries.query import Query
from datasets.schemas.fields import Field

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MEMBERS = ("range", "select", "where", "groupBy", "orderBy", "limit", "cursor")


def parse(body: Any, fields: Sequence[Field], *, now: datetime | None = None) -> Query:
    """Return the query that a JSON body describes.

    Args:
        body: The parsed JSON. Parse it with `values.read_json`, which keeps decimals exact.
        fields: The declared fields of the dataset.
        now: The end of the default range. The default is the present time.

    Raises:
        InvalidQuery: The query is wrong. The error has up to 20 problems.
    """
    problems = Problems()
    members = problems.members("", body, MEMBERS) or {}
    columns = queryable(fields)
    start, end = read_range(members.get("range", MISSING), problems, now or clock.now())
    outputs = Outputs(columns, problems)
    select = outputs.select(members.get("select", MISSING))
    where = Conditions(columns, fields, problems).read(members.get("where", MISSING))
    group_by = outputs.group_by(members.get("groupBy", MISSING), select)
    query = Query(start, end, select, where, group_by, (), DEFAULT_LIMIT, cursors.digest(members))
    order_by = outputs.order_by(members.get("orderBy", MISSING), select, group_by, is_plain=query.is_plain)
    query = replace(query, order_by=order_by, limit=_limit(members.get("limit", DEFAULT_LIMIT), problems))
    if "cursor" in members:
        query = cursors.read(members["cursor"], query, problems)
    problems.raise_if_any()
    return query


def _limit(given: Any, problems: Problems) -> int:
    """Return the limit of a query. Lower it to MAX_LIMIT if it is higher."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return min(given, MAX_LIMIT)
    problems.add("limit", f"integer, 1 to {MAX_LIMIT}", given, f"The limit must be an integer from 1 to {MAX_LIMIT}.")
    return DEFAULT_LIMIT
