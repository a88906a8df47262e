"""The lower levels of an OME-Zarr: each has half the rows and columns of the one above, and all of its slices.

Sections are mostly thicker than pixels are wide, so slices are never joined.  What a level holds of a slice follows
from that slice alone, and whoever writes a slice can write all its levels.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import numpy as np

from ..storage import MAJORITY, MEAN

SMALLEST = 512
"""Rows and columns of a level to which no further one is added."""


def level_shapes(shape: Tuple[int, int, int]) -> List[Tuple[int, int, int]]:
    """Shape (z, y, x) of each level, the volume's own first; half a pixel counts as one.

    >>> level_shapes((7, 2301, 600))
    [(7, 2301, 600), (7, 1151, 300), (7, 576, 150), (7, 288, 75)]
    """
    shapes = [shape]
    while max(shapes[-1][1:]) > SMALLEST:
        depth, height, width = shapes[-1]
        shapes.append((depth, -(-height // 2), -(-width // 2)))
    return shapes


def halved(image: np.ndarray, reduction: str) -> np.ndarray:
    """A slice with half the rows and columns.

    Parameters
    ----------
    image : rows x columns.
    reduction : ``mean`` of four pixels, rounded where they are integers; or ``majority`` for masks of 0 and another
        value: that value where at least two of the four have it, so the lines of a membrane stay closed.

    >>> halved(np.array([[0, 255, 0], [0, 255, 0], [255, 0, 0]], np.uint8), "majority")
    array([[255,   0],
           [255,   0]], dtype=uint8)
    """
    rows, columns = image.shape
    # The last row or column of an odd number is its own neighbour.
    even = np.pad(image, ((0, rows % 2), (0, columns % 2)), mode="edge") if rows % 2 or columns % 2 else image
    return _REDUCTIONS[reduction]([even[row::2, column::2] for row in (0, 1) for column in (0, 1)])


def _mean(corners: List[np.ndarray]) -> np.ndarray:
    dtype = corners[0].dtype
    total = corners[0].astype(np.float32)
    for corner in corners[1:]:
        total += corner
    total *= np.float32(0.25)
    return total if dtype == np.float32 else np.rint(total, out=total).astype(dtype)


def _majority(corners: List[np.ndarray]) -> np.ndarray:
    votes = np.zeros(corners[0].shape, np.uint8)
    largest = np.zeros(corners[0].shape, corners[0].dtype)
    for corner in corners:
        votes += corner != 0
        np.maximum(largest, corner, out=largest)
    return np.where(votes >= 2, largest, np.zeros_like(largest))


_REDUCTIONS: Dict[str, Callable[[List[np.ndarray]], np.ndarray]] = {MEAN: _mean, MAJORITY: _majority}
