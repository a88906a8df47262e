"""Cutting a slice into tiles, each with the halo of grey values that its pixels' patches reach into.

The halo is cut from the whole slice, mirrored at its border, never from a tile
alone; so a pixel sees the same patch whichever tile it falls into.
"""

from __future__ import annotations

from typing import List

import numpy as np

from ...base.ranges import Pair, Region
from ...patches.window import reflect_pad


def even_tile(largest: Pair, region: Pair, step: int = 4) -> Pair:
    """The tile size at most ``largest`` that covers a region in as few tiles, with the least left over.

    Parameters
    ----------
    largest : rows and columns that a tile may have.
    region : rows and columns to be covered.
    step : sizes are rounded up to a multiple of it where ``largest`` allows.

    >>> even_tile((256, 256), (300, 512))
    (152, 256)
    """
    result = []
    for limit, size in zip(largest, region):
        even = -(-size // -(-size // limit))
        result.append(min(limit, -(-even // step) * step))
    return result[0], result[1]


def grid(region: Pair, tile: Pair) -> List[Region]:
    """Tiles that cover a region of ``region`` rows and columns, in reading order; the last ones may be smaller."""
    return [Region(top, min(top + tile[0], region[0]), left, min(left + tile[1], region[1]))
            for top in range(0, region[0], tile[0]) for left in range(0, region[1], tile[1])]


class PaddedSlice:
    """A slice from which tiles with their halo are cut; of the slice itself no second copy is kept.

    Parameters
    ----------
    grey : rows x columns, any data type.
    region : the part of it that is to be segmented; tiles are counted from its corner.
    halo : pixels that a patch reaches before and after the pixel it classifies, for 32 x 32 patches (16, 15).
    """

    def __init__(self, grey: np.ndarray, region: Region, halo: Pair):
        self._region = region
        self._halo = halo
        self._padded = reflect_pad(grey, halo[0], halo[1])

    @property
    def grey(self) -> np.ndarray:
        """The slice without its mirrored border, rows x columns; a view."""
        before, after = self._halo
        rows, columns = self._padded.shape
        return self._padded[before:rows - after, before:columns - after]

    def cut(self, tile: Region) -> np.ndarray:
        """Grey values of a tile and its halo: (rows + sum(halo)) x (columns + sum(halo))."""
        top, left = self._region.top + tile.top, self._region.left + tile.left
        rows, columns = (size + sum(self._halo) for size in tile.shape)
        return np.ascontiguousarray(self._padded[top:top + rows, left:left + columns])
