"""A number that a claim is about, and how sure it is: Student's intervals over seeds, errors clustered by slices."""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

LEVEL = 0.95


class Figure(NamedTuple):
    """One number with what its uncertainty comes from.

    Attributes
    ----------
    name : of what.
    values : one a seed (or draw, or repetition); their mean is the number.
    known : lower and upper end, where the number is not a mean over a sample of seeds: a count is known exactly, a time
        to within what the repetitions differ by.
    within : standard error within a seed, because the validation patches are a sample, clustered by groups of
        neighbouring slices; for information, since seeds that hold out other slices sample them as well.
    """

    name: str
    values: Tuple[float, ...]
    known: Optional[Tuple[float, float]] = None
    within: Optional[float] = None

    @property
    def value(self) -> float:
        """The number itself."""
        return mean(self.values)

    @property
    def samples(self) -> int:
        """How many values it is the mean of."""
        return len(self.values)

    def interval(self, level: float = LEVEL) -> Tuple[float, float]:
        """Two-sided interval at a level of confidence; a single seed says nothing about the spread, so all is possible."""
        if self.known is not None:
            return self.known
        if len(self.values) < 2:
            return -math.inf, math.inf
        from scipy.special import stdtrit

        reach = float(stdtrit(len(self.values) - 1, 0.5 + level / 2)) * stdev(self.values) / math.sqrt(len(self.values))
        return self.value - reach, self.value + reach

    def as_dict(self) -> Mapping[str, Any]:
        """For ``claims.json``; an end that may lie anywhere is null."""
        low, high = (round(end, 4) if math.isfinite(end) else None for end in self.interval())
        return {"name": self.name, "value": round(self.value, 4), "low": low, "high": high, "count": self.samples}

    def text(self) -> str:
        """For people."""
        low, high = self.interval()
        if self.known is not None and low == high:
            return f"{self.name} {self.value:.4g}"
        if not math.isfinite(low):
            return f"{self.name} {self.value:.2f} (one seed)"
        beside = f", error within a seed {self.within:.2f}" if self.within is not None else ""
        count = f"; {self.samples}" if self.known is None else ""
        return f"{self.name} {self.value:.2f} [{low:.2f}, {high:.2f}{count}{beside}]"


def exactly(name: str, value: float) -> Figure:
    """A number without uncertainty."""
    return Figure(name, (value,), (value, value))


def paired(name: str, first: Mapping[int, float], second: Mapping[int, float],
           within: Optional[float] = None) -> List[Figure]:
    """``first`` less ``second``, seed by seed; nothing without a common seed."""
    seeds = sorted(set(first) & set(second))
    return [Figure(name, tuple(first[seed] - second[seed] for seed in seeds), within=within)] if seeds else []


Slices = Sequence[Sequence[int]]
"""Of one network: stack, slice, patches and those classified right, one entry a slice."""


def clustered_error(first: Slices, second: Slices) -> Optional[float]:
    """Standard error, in points, of the difference of two networks' accuracies on the same patches.

    Neighbouring slices show the same tissue, so a run of them is one cluster.
    None with fewer than two clusters.  (The usual estimate for a ratio of sums
    over clusters, with G/(G-1).)
    """
    clusters: List[List[float]] = []
    before: Optional[Tuple[int, int]] = None
    for (stack, z, count, right), (_, _, _, other) in zip(first, second):
        if before != (stack, z - 1):
            clusters.append([0.0, 0.0])
        clusters[-1][0] += count
        clusters[-1][1] += right - other
        before = (stack, z)
    if len(clusters) < 2:
        return None
    total = sum(count for count, _ in clusters)
    whole = sum(gain for _, gain in clusters) / total
    squares = sum((gain - whole * count) ** 2 for count, gain in clusters)
    return 100 * math.sqrt(squares * len(clusters) / (len(clusters) - 1)) / total
