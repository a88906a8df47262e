"""Mean and standard deviation of grey values, of one stack or several, and whether one pair of them suits all."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ..base.errors import UserError
from ..base.progress import Progress
from ..nets.model import Normalisation
from ..volumes.volume import Volume

FAR_MEANS = 1.0
"""Difference of two stacks' means, in the smaller of their standard deviations, from which they are far apart."""

STD_RATIO = 2.0
"""Ratio of two stacks' standard deviations from which they are far apart."""

CLEAR_CONTRAST = 0.1
"""Difference between membrane and the rest, in standard deviations, from which one of them is clearly darker."""

SAMPLED_SLICES = 16
"""Slices, evenly spread over a volume, that its own normalisation is computed from."""


class GreyStatistics:
    """Count, mean and standard deviation of grey values in float64, slice by slice.

    Slices are merged by their own means (Chan, Golub & LeVeque 1983), which
    keeps the digits that a sum of squares of 16-bit values would lose.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> GreyStatistics:
        """Statistics of grey values of any shape; there may be none."""
        found = cls()
        if values.size:
            found.count, found.mean = values.size, float(values.mean(dtype=np.float64))
            found._squares = float(np.square(np.subtract(values, found.mean, dtype=np.float64)).sum())
        return found

    def add(self, other: GreyStatistics) -> None:
        """Take in what other statistics are of."""
        if not other.count:
            return
        total, difference = self.count + other.count, other.mean - self.mean
        self._squares += other._squares + difference ** 2 * self.count * other.count / total
        self.mean += difference * other.count / total
        self.count = total

    @property
    def std(self) -> float:
        """Standard deviation over all pixels (not the sample's)."""
        return float(np.sqrt(self._squares / max(self.count, 1)))


class StackGreys:
    """Grey values of one stack: of the slices that train, of those that validate, of membrane and of the rest."""

    def __init__(self, volume: Volume):
        self.path, self.dtype = volume.path, volume.dtype
        self.train, self.val = GreyStatistics(), GreyStatistics()
        self.membrane, self.rest = GreyStatistics(), GreyStatistics()

    def add_contrast(self, grey: np.ndarray, membrane: np.ndarray, rest: np.ndarray) -> None:
        """Take in a slice's grey values of either class; the classes are bool arrays of its shape."""
        self.membrane.add(GreyStatistics.of(grey[membrane]))
        self.rest.add(GreyStatistics.of(grey[rest]))

    def normalisation(self) -> Normalisation:
        """Of the stack by itself: from its training slices, or where it has none from those that validate."""
        chosen = self.train if self.train.count else self.val
        return Normalisation(chosen.mean, chosen.std)

    def contrast(self) -> float:
        """How much darker than the rest membrane is, in the stack's standard deviations; negative where it is brighter."""
        std = self.normalisation().std
        if not (std > 0 and self.membrane.count and self.rest.count):
            return 0.0
        return (self.rest.mean - self.membrane.mean) / std


def far_apart(stacks: Sequence[StackGreys]) -> Optional[str]:
    """A sentence where one mean and one standard deviation cannot normalise all stacks; otherwise None."""
    first = stacks[0]
    mean, std = first.normalisation()
    for other in stacks[1:]:
        other_mean, other_std = other.normalisation()
        if (other.dtype == first.dtype and abs(other_mean - mean) <= FAR_MEANS * min(std, other_std)
                and max(std, other_std) <= STD_RATIO * min(std, other_std)):
            continue
        return (f"{other.path}: its grey values ({other.dtype.name}) have mean {other_mean:.1f} and standard deviation "
                f"{other_std:.1f}, and those of {first.path} ({first.dtype.name}) {mean:.1f} and {std:.1f}")
    return None


def opposite_contrast(stacks: Sequence[StackGreys]) -> Optional[str]:
    """A sentence where membrane is the dark side in one stack and the bright one in another; otherwise None."""
    dark = next((stack for stack in stacks if stack.contrast() > CLEAR_CONTRAST), None)
    bright = next((stack for stack in stacks if stack.contrast() < -CLEAR_CONTRAST), None)
    if dark is None or bright is None:
        return None
    return (f"{bright.path}: membrane is brighter than the rest there (mean {bright.membrane.mean:.1f} and "
            f"{bright.rest.mean:.1f}), and darker in {dark.path} ({dark.membrane.mean:.1f} and {dark.rest.mean:.1f})")


def own_normalisation(volume: Volume) -> Normalisation:
    """The normalisation of a volume by itself, for models trained on stacks that were normalised one by one.

    It is computed from up to 16 whole slices, evenly spread, whatever part of
    the volume is asked for, so that parts of a volume fit together.  NaN and
    infinite values, and slices that cannot be read, are left out.

    Raises
    ------
    UserError : the volume holds one grey value only, or nothing that can be read.
    """
    depth, statistics = volume.shape[0], GreyStatistics()
    count = min(SAMPLED_SLICES, depth)
    with Progress(count, "grey values") as progress:
        for number in range(count):
            try:
                image = volume.read((2 * number + 1) * depth // (2 * count))
            except UserError:
                continue        # it will be a failed slice; here it only does not count
            statistics.add(GreyStatistics.of(image[np.isfinite(image)] if image.dtype.kind == "f" else image))
            progress.update(number + 1)
    if not statistics.std > 0:
        raise UserError(f"{volume.path}: holds no two different grey values that can be read, so it has no "
                        f"normalisation of its own; check the file")
    return Normalisation(statistics.mean, statistics.std)
