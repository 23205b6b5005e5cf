"""Draw the samples: a chart for each kind, a line for each series."""

from collections.abc import Sequence
from pathlib import Path

import leather

from tests.soak.samples import KINDS, Sample

_COLORS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
_WIDTH, _HEIGHT = 2600, 1500


def write(file: Path, samples: Sequence[Sample], minutes: Sequence[float]) -> None:
    """Write a self-contained SVG. There must be at least two samples. `minutes` are their times."""
    grid = leather.Grid()
    for kind, about in KINDS.items():
        names = [name for name in samples[0] if name.startswith(f"{kind}/")]
        chart = leather.Chart(about.title)
        # Axes begin at zero, so that a flat series looks flat.
        chart.add_y_scale(0, max(max(sample[name] for name in names for sample in samples) * 1.1, 1))
        for name, color in zip(names, _COLORS, strict=False):
            points = [(minute, sample[name]) for minute, sample in zip(minutes, samples, strict=True)]
            chart.add_line(points, name=name.partition("/")[2], stroke_color=color, width=1)
        grid.add_one(chart)
    grid.to_svg(str(file), _WIDTH, _HEIGHT)
