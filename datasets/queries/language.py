"""The query language: check a query in JSON, and return it in our form."""

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
    """Return the query that a body in JSON describes.

    Args:
        body: The parsed JSON. `values.read_json` keeps the spelling of numbers, so that decimals stay exact.
        fields: The declared fields of the dataset.
        now: The end of the default range. Default: the present time.

    Raises:
        InvalidQuery: It names up to 20 mistakes.
    """
    problems = Problems()
    said = problems.members("", body, MEMBERS)
    if said is None:
        said = {}
    columns = queryable(fields)
    start, end = read_range(said.get("range", MISSING), problems, now or clock.now())
    outputs = Outputs(columns, problems)
    select = outputs.select(said.get("select", MISSING))
    where = Conditions(columns, fields, problems).read(said.get("where", MISSING))
    group_by = outputs.group_by(said.get("groupBy", MISSING), select)
    query = Query(start, end, select, where, group_by, (), DEFAULT_LIMIT, cursors.digest(said))
    order_by = outputs.order_by(said.get("orderBy", MISSING), select, group_by, is_plain=query.is_plain)
    query = replace(query, order_by=order_by, limit=_limit(said.get("limit", DEFAULT_LIMIT), problems))
    if "cursor" in said:
        query = cursors.read(said["cursor"], query, problems)
    problems.raise_if_any()
    return query


def _limit(given: Any, problems: Problems) -> int:
    """Return the limit of a query. More than the maximum is the maximum."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return min(given, MAX_LIMIT)
    problems.add("limit", f"integer, 1 to {MAX_LIMIT}", given, f"The limit must be an integer from 1 to {MAX_LIMIT}.")
    return DEFAULT_LIMIT
