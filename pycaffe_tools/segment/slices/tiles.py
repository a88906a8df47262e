"""Cutting a slice into tiles, each with the halo of grey values that its pixels' patches reach into.

The halo is cut from the whole slice, mirrored at its border, never from a tile
alone; so a pixel sees the same patch whichever tile it falls into.
"""

from __future__ import annotations

import numpy as np

from ...base.ranges import Pair, Region
from ...engines.tiling import even_tile as even_tile, grid as grid
from ...patches.window import reflect_pad


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
