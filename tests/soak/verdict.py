"""Decide whether a series is flat, by comparing the end of the run with an earlier part.

Some series rise and fall regularly, like the teeth of a saw: the number of files until they are merged, and the memory
while they are merged. A run has twelve teeth, three in each quarter (see `tests.soak.run`). Take the mean of each
tooth, and the median of a quarter's means, so that one outlier does not count. Compare the second quarter with the
last. The first quarter is for warming up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from tests.soak.samples import KINDS, Sample

TEETH = 12


@dataclass(frozen=True, slots=True)
class Trend:
    """A series: its value in the second and in the last quarter, and how much it may grow."""

    name: str
    before: float
    after: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.after - self.before <= self.allowed

    def __str__(self) -> str:
        said = f"{self.name:<22} {self.before:>12,.1f} -> {self.after:>12,.1f}"
        return said if self.is_flat else f"{said}  GROWS by more than {self.allowed:,.1f}"


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Return the trend of every series that is judged. The samples were taken at regular intervals."""
    count = len(samples)
    if count < TEETH:
        raise ValueError(f"{count} samples are too few to judge")
    teeth = [samples[count * number // TEETH : count * (number + 1) // TEETH] for number in range(TEETH)]
    found = []
    for name in samples[0]:
        kind = KINDS[name.partition("/")[0]]
        if kind.judged:
            means = [mean(sample[name] for sample in tooth) for tooth in teeth]
            before, after = median(means[3:6]), median(means[9:])
            found.append(Trend(name, before, after, max(kind.share * before, kind.slack)))
    return found
