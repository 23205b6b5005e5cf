"""The result of a run: raw figures for a file, and one table in Markdown for people and documents."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_SYSTEMS = ("product", "ceiling", "node", "baseline")
_MAX_WIDTH = 1000


@dataclass(frozen=True)
class Row:
    """A row of the table. If `case` is empty, the row belongs to the case of the row above."""

    measure: str
    values: Mapping[str, str]  # by system
    case: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None  # None: there is no goal


class Report:
    """Collects rows and raw figures, and prints the progress of the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._rows: list[Row] = []
        self._raw: dict[str, list[Any]] = {}

    def progress(self, line: str) -> None:
        """Print a line when a measurement has ended."""
        self._console.print(f"[dim]{time.monotonic() - self._began:5.0f} s[/dim]  {line}", highlight=False)

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def raw(self, case: str, figures: Any) -> None:
        """Keep a raw figure."""
        self._raw.setdefault(case, []).append(figures)

    def of(self, case: str) -> list[Any]:
        """Return the raw figures so far."""
        return self._raw.get(case, [])

    def print(self, conditions: str) -> None:
        """Print the conditions and the results, in Markdown."""
        table = Table(box=box.MARKDOWN, header_style="")
        for column in ("Case", "Measure", *map(str.capitalize, _SYSTEMS), "Ratio", "Target", "Met"):
            table.add_column(column, justify="right" if column.lower() in _SYSTEMS else "left")
        for row in self._rows:
            found = [row.values.get(name, "") for name in _SYSTEMS]
            met = {True: "yes", False: "no", None: ""}[row.met]
            table.add_row(row.case, row.measure, *found, row.ratio, row.target, met)
        # A line of a Markdown table cannot be wrapped.
        Console(file=self._console.file, width=_MAX_WIDTH).print(table, conditions, markup=False, highlight=False)

    def save(self, file: Path, options: Mapping[str, Any]) -> None:
        """Write everything to a file, as JSON."""
        machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
        rows = [vars(row) for row in self._rows]
        everything = {"machine": machine, "options": options, "rows": rows, "raw": self._raw}
        file.write_text(json.dumps(everything, indent=1, default=asdict))


def paired(values: Sequence[float], references: Sequence[float]) -> float:
    """Return the median of the ratios of values that were measured alternately."""
    return median(value / reference for value, reference in zip(values, references, strict=True))


def number(value: float) -> str:
    """Format a number like 12,345, or with one decimal if it is below 100."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"
