"""Which pixels become patches: counted class by class, and drawn without replacement, each equally likely.

The classified pixel is element (16, 16) of its 32 x 32 patch, counted from 0
(:func:`~pycaffe_tools.nets.paper.centre` of other sizes): the patch of pixel (y, x) is rows y - 16 to
y + 15 and columns x - 16 to x + 15 of the slice.  Beyond the border, pixels are mirrored as numpy's
``reflect`` does.  Training and segmentation both take this from here
(the paper leaves both open; see the table of assumptions).
"""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from .sources import EXCLUDED, POSITIVE, LabelledSlice


class SliceCount(NamedTuple):
    """Pixels of each class in one slice."""

    positive: int
    negative: int
    excluded: int


def count_slice(part: LabelledSlice) -> SliceCount:
    """Count the classes of a slice."""
    positive, excluded = (int(np.count_nonzero(part.classes == kind)) for kind in (POSITIVE, EXCLUDED))
    return SliceCount(positive, part.classes.size - positive - excluded, excluded)


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
    rows, columns = np.unravel_index(np.flatnonzero(classes == kind)[numbers], classes.shape)
    return rows, columns
