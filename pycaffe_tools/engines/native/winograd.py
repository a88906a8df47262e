"""Winograd's minimal filtering along the rows of a convolution: fewer products for the same sums.

F(m, r) gives m output rows of a kernel with r rows by m + r - 1 products instead of m r: the input rows are
evaluated as polynomials at as many points (infinity is one), the kernel as well, and the values of the product are
interpolated.  S. Winograd 1980; for convolutional nets A. Lavin, S. Gray, arXiv:1509.09308.
"""

from __future__ import annotations

from fractions import Fraction
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

_HALF = Fraction(1, 2)

POINTS: Tuple[Optional[Fraction], ...] = (Fraction(1), Fraction(0), Fraction(2), Fraction(-2), _HALF, -_HALF, None,
                                          Fraction(-1))
"""The points, ``None`` for infinity, in the order of ``transform`` in source/winograd.h."""

# For kernels of 2 and 3 rows there are filterings with fewer points; they were not faster, since the rows that are then
# in use at a time do not stay in the caches.
_ROWS = (4, 5, 6, 7)


class Filtering(NamedTuple):
    """F(tile, rows), as matrices in float64: ``combine @ ((kernel @ g) * (data @ d))`` for rows d of input, g of kernel."""

    tile: int
    combine: np.ndarray
    """tile x 8."""
    kernel: np.ndarray
    """8 x rows."""
    data: np.ndarray
    """8 x 8."""


def filtering(rows: int) -> Optional[Filtering]:
    """The filtering for kernels with so many rows; None where there is none that is worth it."""
    return make_filtering(POINTS, rows) if rows in _ROWS else None


def make_filtering(points: Sequence[Optional[Fraction]], rows: int) -> Filtering:
    """F(number of points - rows + 1, rows) by Lagrange's interpolation, in exact fractions until the end."""
    count = len(points)
    tile = count - rows + 1
    combine = [[Fraction(int(power == tile - 1)) if point is None else point ** power for point in points]
               for power in range(tile)]
    kernel, data = [], []
    for point in points:
        others = [other for other in points if other is not None and other != point]
        polynomial = [Fraction(1)]
        divisor = Fraction(1)
        for other in others:
            polynomial = _times(polynomial, [-other, Fraction(1)])
            divisor *= 1 if point is None else point - other
        data.append(polynomial + [Fraction(0)] * (count - len(polynomial)))
        kernel.append([Fraction(int(power == rows - 1)) if point is None else point ** power / divisor
                       for power in range(rows)])
    return Filtering(tile, *(np.array(matrix, dtype=float) for matrix in (combine, kernel, data)))


def _times(one: List[Fraction], other: List[Fraction]) -> List[Fraction]:
    result = [Fraction(0)] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            result[i + j] += a * b
    return result
