"""Charts of a search: bars that Chart.js draws, and the same figures as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from config.common.text import visible_lines
from datasets.queries.columns import BUCKETS
from ingest.admin.searching import listing
from ingest.admin.searching.search import Search

_AUTOMATIC_BARS = 100  # the maximum number of bars by time, if the user chooses no unit
MAX_BARS = 400
_SECONDS = dict(zip(BUCKETS, (60, 3600, 86_400, 7 * 86_400, 30 * 86_400), strict=True))  # the length of each unit
_LABELS = {"minute": 16, "hour": 16, "day": 10, "week": 10, "month": 7}  # a label shows this number of characters
_LABEL_CHARACTERS = 40
_TEXT_COLOR = "#737b8c"  # readable on white and on black


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its label, its value, and the address of the search for its records, if a search can find them."""

    label: str
    value: Any
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        title: What the chart shows.
        head: The headings of the labels and of the values.
        bars: The bars.
        notes: Sentences that a reader needs to understand the chart.
        is_horizontal: Whether the bars are horizontal, which leaves space for long labels.
    """

    title: str
    head: tuple[str, str]
    bars: Sequence[Bar]
    notes: Sequence[str] = ()
    is_horizontal: bool = False

    @property
    def is_drawn(self) -> bool:
        """Whether bars can show the values: each value is a number or null, and at least one is a number."""
        values = [bar.value for bar in self.bars if bar.value is not None]
        return bool(values) and all(isinstance(value, int | Decimal) for value in values)

    @property
    def height(self) -> int:
        """The height in pixels."""
        return 60 + 24 * len(self.bars) if self.is_horizontal else 220

    @property
    def data(self) -> str:
        """The data for Chart.js."""
        bars = {
            "label": self.head[1],
            "data": [None if bar.value is None else float(bar.value) for bar in self.bars],
            "backgroundColor": "var(--color-primary-500)",
            "maxBarThickness": 40,
        }
        labels = [_short(bar.label) for bar in self.bars]
        return json.dumps({"labels": labels, "datasets": [bars]})

    @property
    def options(self) -> str:
        """The options for Chart.js."""
        ticks = {"color": _TEXT_COLOR, "maxRotation": 0, "autoSkip": not self.is_horizontal}
        names = {"grid": {"display": False}, "ticks": ticks}
        values = {"beginAtZero": True, "grid": {}, "ticks": {"color": _TEXT_COLOR}}
        return json.dumps(
            {
                "animation": False,
                "events": ["mousemove", "mouseout"],  # the mouse shows a bar's value; a click does nothing
                "maintainAspectRatio": False,
                "indexAxis": "y" if self.is_horizontal else "x",
                "plugins": {"legend": {"display": False}},
                "scales": {"x": values, "y": names} if self.is_horizontal else {"x": names, "y": values},
            }
        )


def unit(wanted: str, first: datetime, last: datetime) -> tuple[str, str]:
    """Return the time unit of the bars, and a note if it differs from `wanted`. If `wanted` is empty, choose a unit."""
    span = (last - first).total_seconds()
    limit, finest = (MAX_BARS, wanted) if wanted else (_AUTOMATIC_BARS, BUCKETS[0])
    candidates = BUCKETS[BUCKETS.index(finest) :]
    chosen = next((each for each in candidates if span / _SECONDS[each] < limit), BUCKETS[-1])
    if wanted in ("", chosen):
        return chosen, ""
    return chosen, f"A chart by {wanted} would have more than {MAX_BARS} bars, so this chart counts by {chosen}."


def by_time(counts: Mapping[datetime, int], unit_name: str, note: str) -> Chart:
    """Return the chart of the number of records by time.

    A time without records has a bar of 0. If there would be more than MAX_BARS bars, such times are left out.
    """
    starts = list(_steps(min(counts), max(counts), unit_name))
    notes = [note] if note else []
    if len(starts) > MAX_BARS:
        starts = sorted(counts)
        notes.append("Times without records are left out.")
    bars = [Bar(start.isoformat(" ")[: _LABELS[unit_name]], counts.get(start, 0)) for start in starts]
    head = (f"{unit_name}, UTC", "records")
    return Chart(f"Records by {unit_name} of their timestamp (UTC)", head, bars, notes)


def _steps(first: datetime, last: datetime, unit_name: str) -> Iterator[datetime]:
    """Yield the starts of the buckets, but at most MAX_BARS + 1: then the caller knows that there are too many."""
    start = first
    for _ in range(MAX_BARS + 1):
        yield start
        if start >= last:
            return
        if unit_name == "month":
            start = (start + timedelta(days=31)).replace(day=1)
        else:
            start += timedelta(seconds=_SECONDS[unit_name])


def by_group(search: Search, rows: Sequence[Mapping[str, Any]], *, is_cut: bool) -> Chart:
    """Return the chart of the groups with the greatest values."""
    group, measure, of = search.value("group"), search.value("measure"), search.value("of")
    what = f"{measure} of {of}" if of else "records"
    bars = [
        Bar(visible_lines(shown(row["value"])), row["result"], _address(search, group, row["value"])) for row in rows
    ]
    notes = [f"This chart shows only the {len(bars)} groups with the greatest values."] if is_cut else []
    if any(bar.value is None for bar in bars):
        notes.append("A group whose values are all null has no result.")
    title = f"{what[0].upper()}{what[1:]} by {group}"
    return Chart(title, (group, what), bars, notes, is_horizontal=True)


def _address(search: Search, group: str, value: Any) -> str | None:
    """Return the address of the search for a group's records, or None if no condition can select them."""
    if value is None and not search.columns[group].optional:
        return None
    if isinstance(value, str) and len(value) > listing.MAX_CELL:
        return None
    more = {"field": group, "op": "is_null" if value is None else "=", "value": "" if value is None else shown(value)}
    return search.address(more=more, group="", measure="", of="")


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"


def shown(value: Any) -> str:
    """Return a value as the search page shows it: a text as it is, anything else as JSON without quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str).strip('"')
