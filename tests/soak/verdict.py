"""Flat or not: what is so late in the run, beside what it was earlier.

What is a saw-tooth by design (files until they are merged, memory while they are) has twelve teeth in a run, see
`tests.soak.run`. Of each tooth the mean is taken, of each quarter's three teeth the median, which one odd tooth does
not move; and the second quarter is compared with the last. The first is for warming up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from tests.soak.samples import KINDS, Sample

TEETH = 12


@dataclass(frozen=True, slots=True)
class Trend:
    """A series, what it was in the second and in the last quarter, and how much more it may be."""

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
    """Every series that is judged, of samples at regular intervals."""
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
