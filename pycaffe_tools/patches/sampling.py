"""Which pixels become patches, and what a patch is.

The classified pixel is element (16, 16) of its 32 x 32 patch, counted from 0:
the patch of pixel (y, x) is rows y - 16 ... y + 15 and columns x - 16 ...
x + 15 of the slice.  Beyond the border, pixels are mirrored as numpy's
``reflect`` does.  Training and segmentation both take this from here
(the paper leaves both open; see the table of assumptions).
"""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from .sources import EXCLUDED, POSITIVE, Source


class SliceCount(NamedTuple):
    """Pixels of each class in one slice; ``marked`` is what the label file marks, before outlines and exclusion."""

    positive: int
    negative: int
    excluded: int
    marked: int


def count_slice(source: Source, z: int) -> SliceCount:
    """Count the classes of slice ``z``."""
    marked = source.marked(z)
    classes = source.classes(z, marked)
    positive, excluded = (int(np.count_nonzero(classes == kind)) for kind in (POSITIVE, EXCLUDED))
    return SliceCount(positive, classes.size - positive - excluded, excluded, int(np.count_nonzero(marked)))


class GreyStatistics:
    """Mean and standard deviation of grey values in float64, slice by slice.

    Slices are merged by their own means (Chan, Golub & LeVeque 1983), which
    keeps the digits that a sum of squares of 16-bit values would lose.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, image: np.ndarray) -> None:
        """Take in all pixels of one slice."""
        mean = float(image.mean(dtype=np.float64))
        squares = float(np.square(np.subtract(image, mean, dtype=np.float64)).sum())
        total, difference = self.count + image.size, mean - self.mean
        self._squares += squares + difference ** 2 * self.count * image.size / total
        self.mean += difference * image.size / total
        self.count = total

    @property
    def std(self) -> float:
        """Standard deviation over all pixels (not the sample's)."""
        return float(np.sqrt(self._squares / max(self.count, 1)))


def draw(rng: np.random.Generator, counts: Sequence[int], wanted: int) -> List[np.ndarray]:
    """Draw ``wanted`` of the pixels that are ``counts[i]`` in slice i, without replacement, each equally likely.

    Returns
    -------
    For each slice the chosen numbers in [0, counts[i]), ascending: pixels of
    the class are numbered in reading order.
    """
    ends = np.cumsum(counts)
    chosen = np.sort(rng.choice(int(ends[-1]), wanted, replace=False, shuffle=False))
    cuts = np.searchsorted(chosen, ends[:-1])
    return [part - start for part, start in zip(np.split(chosen, cuts), ends - counts)]


def positions(classes: np.ndarray, kind: int, numbers: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of class ``kind`` with these ``numbers``, in reading order."""
    return np.unravel_index(np.flatnonzero(classes == kind)[numbers], classes.shape)
