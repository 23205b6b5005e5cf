"""Run the queries of a search, and prepare their results for the page.

These queries run in query processes and have limits, like the queries of the API.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from config.common.errors import ApiError, Refused
from datasets.api.queries.answers import answer
from datasets.queries import figures
from datasets.queries.execution.snapshot import Location
from datasets.queries.processes import formats
from datasets.queries.processes.messages import Job
from ingest.admin.searching import charts, listing
from ingest.admin.searching.forms import NO_CHART
from ingest.admin.searching.search import Search, encoded

MAX_GROUPS = 20


@dataclass(slots=True)
class Results:
    """The results of a search.

    A part is None or empty if the search does not ask for it, if there are no records, or if a query failed.

    Attributes:
        rows: The columns and rows of the list, and the cursor of the next page.
        count: The number of records.
        chart: The number of records by time.
        groups: The groups with the greatest values.
        problem: Why a query failed. Empty if no query failed.
    """

    rows: dict[str, Any] = field(default_factory=dict)
    count: int | None = None
    chart: charts.Chart | None = None
    groups: charts.Chart | None = None
    problem: str = ""


class SearchRunner:
    """Runs the queries of one page, one after the other."""

    def __init__(self, search: Search, who: str, is_canceled: Callable[[], bool]) -> None:
        """Prepare a run. The list of slow queries shows `who`."""
        self._search, self._who, self._is_canceled = search, who, is_canceled

    def results(self) -> Results:
        """Return the results of the search. If a query fails, run no further query."""
        found = Results()
        try:
            found.rows = self._rows()
            self._summary(found)
        except ApiError as refusal:
            found.problem = f"{refusal.error}. {refusal.details.get('detail', '')}".strip()
        except Refused as reason:  # the browser has disconnected
            found.problem = str(reason)
        return found

    def _rows(self) -> dict[str, Any]:
        result = self._run(self._search.rows_body(), max_characters=listing.MAX_CELL + 1)
        names = [column["name"] for column in result["columns"]]
        describe = listing.describer(self._search.dataset)
        return {
            "columns": [(name, describe(name)) for name in names],
            "rows": [
                {"id": row["id"], "cells": [listing.cell(row[name], listing.MAX_CELL) for name in names]}
                for row in result["rows"]
            ],
            "cursor": result.get("cursor", ""),
        }

    def _summary(self, found: Results) -> None:
        """Count the records, by time and by group."""
        limits = [{"aggregate": name, "field": "timestamp", "as": name} for name in ("min", "max")]
        (totals,) = self._run(self._search.body(select=[{"aggregate": "count"}, *limits]))["rows"]
        found.count = totals["count"]
        if not found.count:
            return
        if self._search.value("chart") != NO_CHART:
            found.chart = self._by_time(_moment(totals["min"]), _moment(totals["max"]))
        if self._search.value("group"):
            found.groups = self._by_group()

    def _by_time(self, first: datetime, last: datetime) -> charts.Chart:
        unit, note = charts.unit(self._search.value("chart"), first, last)
        body = self._search.body(
            select=[{"bucket": unit, "field": "timestamp", "as": "start"}, {"aggregate": "count"}],
            groupBy=["start"],
            orderBy=[{"field": "start"}],
            limit=1000,
        )
        rows = self._run(body)["rows"]
        return charts.by_time({_moment(row["start"]): row["count"] for row in rows}, unit, note)

    def _by_group(self) -> charts.Chart:
        result = self._run(self._search.groups_body(MAX_GROUPS), max_characters=listing.MAX_CELL + 1)
        return charts.by_group(self._search, result["rows"], is_cut=result["truncated"])

    def _run(self, body: Mapping[str, Any], max_characters: int | None = None) -> dict[str, Any]:
        """Return a result as JSON. Raises ApiError."""
        dataset = self._search.dataset
        job = Job(
            query=encoded(body),
            fields=self._search.fields,
            location=Location.of(dataset),
            media_type=formats.JSON,
            memory=settings.QUERY_MEMORY_BYTES,
            max_characters=max_characters,
        )
        with figures.noted(dataset.project_id, dataset.pk, self._who):
            response: Any = answer(dataset.project_id, job, self._is_canceled)
            try:
                found: dict[str, Any] = json.loads(b"".join(response), parse_float=Decimal)
            finally:
                response.close()
        return found


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # the bucket of the first days of year 1 begins in a year that Python cannot represent
        return datetime.min.replace(tzinfo=UTC)
